"""Generate sdk/hostmesh/v1 from protos/hostmesh/v1: the one protoc call of hostmesh's own protocols.

Messages are protoc's own work, clients and server bases that of hostmesh's plugin, as an application's are.

Usage: python protos/generate.py [--check | --release NAME]

--check writes nothing and exits 1 when the committed code is not what the .proto files give.
--release writes protos/released/NAME.binpb, to which `hostmesh proto check` holds all later changes.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = Path("hostmesh/v1")
RELEASED = PROTOS / "released"
OPTIONS = PACKAGE / "options.proto"
SHIPPED = Path("hostmesh/protoc/include")
GENERATED = (f"{PACKAGE}/*_pb2.py*", f"{PACKAGE}/*_hostmesh.py", f"{SHIPPED}/**/*.proto")


def generate(target: Path) -> None:
    """Generate the code of every .proto of the package: messages, their stubs, clients and server bases."""
    run_protoc(
        f"--plugin=protoc-gen-hostmesh={Path(sys.executable).with_name('protoc-gen-hostmesh')}",
        f"--python_out={target}",
        f"--pyi_out={target}",
        f"--hostmesh_out={target}",
    )
    # What an application's .proto imports, where an installed package has it.
    shipped = target / SHIPPED / OPTIONS
    shipped.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(PROTOS / OPTIONS, shipped)


def release(name: str) -> int:
    """Write the package as a descriptor set; return the exit code. What was released is never written again."""
    target = RELEASED / f"{name}.binpb"
    if target.parent != RELEASED or not name or target.exists():
        print(f"{target} is there already, or not in {RELEASED}: name the new release", file=sys.stderr)
        return 1
    run_protoc("--include_imports", f"--descriptor_set_out={target}")
    return 0


def run_protoc(*options: str) -> None:
    """Run protoc over every .proto of the package."""
    import grpc_tools
    from grpc_tools import protoc

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    sources = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / PACKAGE).glob("*.proto"))
    code = protoc.main(["protoc", f"-I{PROTOS}", f"-I{well_known}", *options, *sources])
    if code != 0:
        raise SystemExit(code)


def drift(expected: Path, committed: Path) -> list[str]:
    """Return the paths at which two trees of generated code differ."""
    paths = {
        str(path.relative_to(tree)) for tree in (expected, committed) for kind in GENERATED for path in tree.glob(kind)
    }
    return sorted(path for path in paths if _bytes(expected / path) != _bytes(committed / path))


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def main(arguments: list[str]) -> int:
    """Generate, or with --check compare; return the exit code."""
    if arguments == ["--check"]:
        with tempfile.TemporaryDirectory() as folder:
            generate(Path(folder))
            paths = drift(Path(folder), ROOT / "sdk")
        for path in paths:
            print(f"sdk/{path} is not what protos/{PACKAGE} gives: run python protos/generate.py")
        return 1 if paths else 0
    if len(arguments) == 2 and arguments[0] == "--release":
        return release(arguments[1])
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    generate(ROOT / "sdk")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
