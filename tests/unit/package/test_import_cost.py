"""`import hostmesh` and `hostmesh --help` stay light: what is heavy is imported when it is first needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("libp2p", "eth_account", "zeroconf", "httpx", "trio", "google.protobuf", "pydantic", "multiaddr", "sqlite3")


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def cpu_s(code: str) -> float:
    """Return the least CPU of three fresh interpreters: noise only adds."""
    timed = f"import resource\n{code}\nu = resource.getrusage(resource.RUSAGE_SELF)\nprint(u.ru_utime + u.ru_stime)"
    return min(float(run(timed).splitlines()[-1]) for _ in range(3))


def test_import_loads_nothing_heavy() -> None:
    loaded = run(f"import sys, hostmesh\nprint([name for name in {HEAVY!r} if name in sys.modules])")
    assert loaded.strip() == "[]"


def test_import_costs_under_a_tenth_of_a_second_of_cpu() -> None:
    # CPU time, not wall time: the figure is the issue of the design (lazy names), not of the machine's load.
    assert cpu_s("import hostmesh") - cpu_s("pass") < 0.1


def test_help_loads_no_network_library() -> None:
    code = """
import sys
sys.argv = ["hostmesh", "--help"]
from hostmesh.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print([name for name in ("libp2p", "eth_account", "zeroconf", "httpx", "sqlite3") if name in sys.modules])
"""
    assert run(code).splitlines()[-1] == "[]"


def test_help_costs_under_three_tenths_of_a_second_of_cpu() -> None:
    code = """
import contextlib, io, sys
sys.argv = ["hostmesh", "--help"]
from hostmesh.cli.main import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
"""
    assert cpu_s(code) - cpu_s("pass") < 0.3


def test_type_checkers_are_told_of_the_same_names_at_the_same_homes() -> None:
    import hostmesh

    stub = ast.parse(Path(hostmesh.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    told = {
        name.asname: (node.module, name.name)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert told == {name: (home, name) for name, home in hostmesh._HOMES.items()}


def test_every_public_name_resolves_and_an_unknown_one_does_not() -> None:
    import hostmesh

    for name in hostmesh.__all__:
        assert getattr(hostmesh, name) is not None
    assert set(hostmesh.__all__) <= set(dir(hostmesh))
    with pytest.raises(AttributeError, match="no attribute 'find_hosts'"):
        _ = hostmesh.find_hosts  # type: ignore[attr-defined]
