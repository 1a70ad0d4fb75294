"""``./run`` in every way it can find uv, or not. A made-up checkout names a made-up uv, so that no network is needed.

The uv of these tests is a shell script that prints how it was called. ``pip`` finds it in a folder of wheels, the
launcher's own download in a server on the loopback; its hash stands in the checkout's uv.lock.
"""

from __future__ import annotations

import hashlib
import http.server
import os
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """#!/bin/sh
[ "$1" = --version ] && { echo "uv 9.9.9 (made up)"; exit; }
[ "$1" = python ] && exit
echo "$0" "$@" in "$PWD"
"""
WHEEL = "uv-9.9.9-py3-none-any.whl"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that pip and the launcher both accept as uv 9.9.9, for every platform that can run a shell."""
    path = tmp_path_factory.mktemp("wheels") / WHEEL
    files = {
        "uv-9.9.9.data/scripts/uv": SCRIPT,
        "uv-9.9.9.dist-info/METADATA": "Metadata-Version: 2.1\nName: uv\nVersion: 9.9.9\n",
        "uv-9.9.9.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files["uv-9.9.9.dist-info/RECORD"] = "".join(f"{name},,\n" for name in (*files, "uv-9.9.9.dist-info/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = (stat.S_IFREG | (0o755 if name.endswith("/uv") else 0o644)) << 16
            archive.writestr(member, content)
    return path


@dataclass
class Server:
    """Serves the wheel and counts."""

    url: str = ""
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def server(wheel: Path) -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.path)
            data = wheel.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            del format, args

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        state.url = f"http://127.0.0.1:{served.server_port}"
        yield state
        served.shutdown()
        thread.join()


def platform_wheel() -> str:
    """The name that the wheel has for this machine."""
    import platform

    return f"uv-9.9.9-py3-none-manylinux_2_17_{platform.machine()}.manylinux2014_{platform.machine()}.whl"


@dataclass
class Checkout:
    """A folder with ``run`` and a uv.lock, and an environment with nothing but what a test puts there."""

    path: Path
    tools: Path
    env: dict[str, str]

    def run(self, *argv: str, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.path / "run", *argv],
            cwd=cwd or self.path,
            env=self.env | more,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def tool(self, name: str, content: str) -> Path:
        """Put a program on the PATH."""
        path = self.tools / name
        path.unlink(missing_ok=True)
        path.write_text(content)
        path.chmod(0o755)
        return path

    def without_ensurepip(self) -> None:
        """Make the Python like bare Debian's."""
        package = self.path / "bare" / "ensurepip"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise ImportError('No module named ensurepip')\n")
        self.env["PYTHONPATH"] = str(package.parent)


@pytest.fixture
def checkout(tmp_path: Path, wheel: Path, server: Server) -> Checkout:
    path = tmp_path / "a checkout"
    path.mkdir()
    shutil.copy(ROOT / "run", path / "run")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    urls = (f"{server.url}/uv-9.9.9-py3-none-win32.whl", f"{server.url}/{platform_wheel()}")
    wheels = ",\n".join(f'{{ url = "{url}", hash = "sha256:{digest}" }}' for url in urls)
    (path / "uv.lock").write_text(f'[[package]]\nname = "uv"\nversion = "9.9.9"\nwheels = [\n{wheels}\n]\n')
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "dirname", "env", "cat"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    (tools / "python3").symlink_to(Path(sys.executable).resolve())
    env = {"PATH": str(tools), "HOME": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel.parent)}
    return Checkout(path, tools, env)


def called(done: subprocess.CompletedProcess[str], uv: Path | str, checkout: Checkout, cwd: Path, *argv: str) -> bool:
    return done.stdout == f"{uv} run --frozen --project {checkout.path} {' '.join(argv)} in {cwd}\n"


def test_a_recent_uv_on_the_path_is_used_and_nothing_is_installed(checkout: Checkout) -> None:
    uv = checkout.tool("uv", SCRIPT)
    done = checkout.run("pytest", "-x")
    assert called(done, uv, checkout, checkout.path, "pytest", "-x"), done
    assert (done.returncode, done.stderr) == (0, "")
    assert not (checkout.path / ".uv").exists()


@pytest.mark.parametrize("version", ["uv 0.7.22", "uv", "", "something else"])
def test_an_old_uv_is_passed_over(checkout: Checkout, version: str) -> None:
    checkout.without_ensurepip()
    checkout.tool("uv", f"#!/bin/sh\necho {version}\n")
    assert called(checkout.run("x"), checkout.path / ".uv/bin/uv", checkout, checkout.path, "x")


@pytest.mark.parametrize("version", ["0.8.0", "0.13.8", "1.0.0"])
def test_these_are_recent(checkout: Checkout, version: str) -> None:
    uv = checkout.tool("uv", SCRIPT.replace("9.9.9", version))
    assert called(checkout.run("x"), uv, checkout, checkout.path, "x")


def test_pip_installs_uv_beside_the_checkout_by_hash(checkout: Checkout, server: Server) -> None:
    done = checkout.run("x")
    uv = checkout.path / ".uv" / "bin" / "uv"
    assert called(done, uv, checkout, checkout.path, "x"), done
    assert done.stderr == "run: installing uv into .uv\n"
    assert server.requests == []
    assert sorted(path.name for path in uv.parent.parent.iterdir()) == ["bin", "lock"], "no environment is left over"
    assert checkout.run("x").stderr == "", "the second time it is there"


def test_without_ensurepip_the_wheel_is_unpacked(checkout: Checkout, server: Server) -> None:
    checkout.without_ensurepip()
    done = checkout.run("x")
    uv = checkout.path / ".uv" / "bin" / "uv"
    assert called(done, uv, checkout, checkout.path, "x"), done
    assert server.requests == [f"/{platform_wheel()}"]
    assert stat.S_IMODE(uv.stat().st_mode) == 0o755


def test_a_wheel_with_another_hash_is_installed_by_neither_way(checkout: Checkout, server: Server) -> None:
    lock = checkout.path / "uv.lock"
    text = lock.read_text()
    digest = text.split("sha256:")[1][:64]
    lock.write_text(text.replace(digest, "0" * 64))
    done = checkout.run("x")
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [
        line for line in done.stderr.splitlines() if "is not the file that uv.lock names; nothing was installed" in line
    ]
    assert [path.name for path in (checkout.path / ".uv" / "bin").iterdir()] == []
    assert server.requests == [f"/{platform_wheel()}"], "pip had refused it before"


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert done.stdout == ""
    line = done.stderr.splitlines()[-1]
    assert line.startswith("run: ")
    assert "Traceback" not in done.stderr
    return line


def test_no_network_is_one_line(checkout: Checkout) -> None:
    checkout.without_ensurepip()
    lock = checkout.path / "uv.lock"
    lock.write_text(lock.read_text().replace("http://127.0.0.1:", "http://127.0.0.1:1/"))
    assert "cannot download uv" in one_line(checkout.run("x"))


def test_a_platform_without_a_wheel_is_one_line(checkout: Checkout) -> None:
    checkout.without_ensurepip()
    lock = checkout.path / "uv.lock"
    lock.write_text(lock.read_text().replace("manylinux", "beos"))
    assert "no uv wheel for this platform; install uv 0.8 or newer" in one_line(checkout.run("x"))


def test_a_folder_that_cannot_be_written_is_one_line(checkout: Checkout) -> None:
    (checkout.path / ".uv").write_text("in the way")
    assert "cannot install uv" in one_line(checkout.run("x"))


@pytest.mark.parametrize("found", ["3.10", "3.14"])
def test_a_python_that_is_too_old_or_too_new_is_one_line(checkout: Checkout, found: str) -> None:
    checkout.tool("python3", f"#!/bin/sh\necho {found}\n")
    line = one_line(checkout.run("x"))
    assert line == (
        f"run: needs Python 3.11, 3.12 or 3.13, found: python3={found}; "
        "install one (Debian, Ubuntu: apt-get install python3), or uv"
    )


def test_no_python_at_all_is_one_line(checkout: Checkout) -> None:
    (checkout.tools / "python3").unlink()
    assert "found: none; install one" in one_line(checkout.run("x"))


def test_another_python_on_the_path_serves(checkout: Checkout) -> None:
    checkout.without_ensurepip()
    (checkout.tools / "python3").rename(checkout.tools / "python3.11")
    checkout.tool("python3", "#!/bin/sh\necho 3.9\n")
    assert checkout.run("x").returncode == 0


def test_no_command_is_one_line(checkout: Checkout) -> None:
    assert "no command given" in one_line(checkout.run())


def test_the_callers_directory_stays(checkout: Checkout, tmp_path: Path) -> None:
    uv = checkout.tool("uv", SCRIPT)
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    assert called(checkout.run("x", cwd=elsewhere), uv, checkout, elsewhere, "x")


def test_arguments_and_exit_code_pass_through(checkout: Checkout) -> None:
    checkout.tool("uv", '#!/bin/sh\n[ "$1" = --version ] && echo uv 1.0.0 && exit\nprintf "%s|" "$@"\nexit 7\n')
    done = checkout.run("a b", "$c", "", "--d")
    assert done.stdout == f"run|--frozen|--project|{checkout.path}|a b|$c||--d|"
    assert done.returncode == 7


def test_two_at_once_install_once(checkout: Checkout, server: Server) -> None:
    checkout.without_ensurepip()
    both = [
        subprocess.Popen(
            [checkout.path / "run", "x"], env=checkout.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert all("run --frozen" in out for out, _ in outputs)
    assert len(server.requests) == 1


@pytest.mark.interop
@pytest.mark.parametrize("bare", [False, True], ids=["pip", "wheel"])
def test_the_real_lock_file_gives_a_real_uv(checkout: Checkout, bare: bool) -> None:
    """Over the network: what a newcomer's machine does, up to uv's own first word."""
    shutil.copy(ROOT / "uv.lock", checkout.path)
    if bare:
        checkout.without_ensurepip()
    given = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP"))}
    env = {"PATH": checkout.env["PATH"], "HOME": checkout.env["HOME"], **given}
    if bare:
        env["PYTHONPATH"] = checkout.env["PYTHONPATH"]
    # Without a pyproject.toml uv itself says so, and that it can run is all that is asked here.
    subprocess.run([checkout.path / "run", "true"], env=env, capture_output=True, timeout=300, check=False)
    said = subprocess.run([checkout.path / ".uv/bin/uv", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("uv ")
