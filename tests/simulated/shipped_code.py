"""Runs a scenario of whole simulated nodes and prints, as JSON, which code of hostmesh it was.

``python -m tests.simulated.shipped_code``. Looked at: the lines that ran, by coverage.py; every function that was
called, by a profile hook; every attribute of every module and class of hostmesh, before the test kit is imported,
while the nodes run, and afterwards; every function's bytecode beside what its file compiles to; and every object that a
node holds on to.
"""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import sys
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import BuiltinMethodType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import coverage
import trio

import hostmesh

ROOT = Path(hostmesh.__file__).resolve().parent
KIT = "hostmesh.testing"
NOT_IN_A_NODE = (KIT, "hostmesh.cli", "hostmesh.protoc", "hostmesh.schema", "hostmesh.net.libp2p")
MODEL = "fake-chat"


def import_all() -> list[ModuleType]:
    """Import every module that a node may consist of."""
    names = [module.name for module in pkgutil.walk_packages([str(ROOT)], "hostmesh.", onerror=None)]
    return [hostmesh, *(importlib.import_module(name) for name in names if not name.startswith(NOT_IN_A_NODE))]


# --- what is replaced ---


def attributes(modules: list[ModuleType]) -> dict[str, Any]:
    """Return every attribute of the modules, of their classes, and what each function consists of."""
    found: dict[str, Any] = {}

    def add(name: str, value: Any) -> None:
        found[name] = value
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if isinstance(function, FunctionType):
            for part in ("__code__", "__defaults__", "__kwdefaults__", "__closure__", "__globals__"):
                found[f"{name}.{part}"] = getattr(function, part)

    for module in modules:
        for name, value in vars(module).items():
            add(f"{module.__name__}:{name}", value)
            if isinstance(value, type) and value.__module__ == module.__name__:
                for attribute, inner in vars(value).items():
                    add(f"{module.__name__}:{name}.{attribute}", inner)
    return found


def replaced(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what is another object now, or of the kit's."""
    changed = [name for name, value in before.items() if name not in now or now[name] is not value]
    new = [name for name, value in now.items() if name not in before and str(owner(value)).startswith(KIT)]
    return sorted(changed + new)


def owner(value: Any) -> object:
    return getattr(value, "__module__", None) or type(value).__module__


def altered(modules: list[ModuleType], before: dict[str, Any]) -> list[str]:
    """Return the functions whose bytecode is not what their file compiles to."""
    files = {module.__file__: set(codes_of(compiled(module))) for module in modules}
    codes = {name: value for name, value in before.items() if isinstance(value, CodeType)}
    ours = {name: code for name, code in codes.items() if code.co_filename in files}
    assert len(ours) > 1500
    return sorted(name for name, code in ours.items() if code not in files[code.co_filename])


def compiled(module: ModuleType) -> CodeType:
    assert module.__file__ is not None
    code = compile(Path(module.__file__).read_bytes(), module.__file__, "exec", dont_inherit=True)
    assert isinstance(code, CodeType)
    return code


def codes_of(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_of(constant)


# --- what a node holds on to ---


def kit_objects(node: object) -> list[str]:
    """Return the types of the kit's objects that a node holds on to, directly or through objects of hostmesh."""
    seen: dict[int, object] = {}
    found: set[str] = set()
    waiting: deque[object] = deque([node])
    while waiting:
        each = waiting.popleft()
        if id(each) in seen:
            continue
        seen[id(each)] = each
        kind = type(each)
        if isinstance(each, dict):
            waiting.extend([*each.keys(), *each.values()])
        elif isinstance(each, list | tuple | set | frozenset | deque):
            waiting.extend(each)
        elif isinstance(each, MethodType | BuiltinMethodType):
            waiting.append(each.__self__)
        elif isinstance(each, partial):
            waiting.extend([each.func, *each.args, *each.keywords.values()])
        elif isinstance(each, FunctionType):
            if each.__module__.startswith(KIT):
                found.add(f"{each.__module__}.{each.__qualname__}")
            waiting.extend(cell.cell_contents for cell in each.__closure__ or () if not is_empty(cell))
        elif kind.__module__.startswith(KIT):
            found.add(f"{kind.__module__}.{kind.__qualname__}")
        elif kind.__module__.startswith("hostmesh."):
            waiting.extend(getattr(each, "__dict__", {}).values())
            slots = [name for base in kind.__mro__ for name in getattr(base, "__slots__", ())]
            waiting.extend(getattr(each, name) for name in slots if hasattr(each, name))
    assert len(seen) > 200
    return sorted(found)


def is_empty(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return True
    return False


# --- the scenario ---


async def scenario(net: Any, look: Any) -> str:
    """A bootstrap node, two hosts, two clients: find, session, streamed jobs, status, a message, withdrawal."""
    from hostmesh import HostCriteria, NoHostFoundError
    from hostmesh.testing import FakeEngine, make_description, make_wallet

    async def start(sdk: Any, machine: Any, *bootstrap: str) -> str:
        await sdk.authenticate(wallet=make_wallet(machine.name))
        peer_id = await sdk.get_discovery_manager().create_node(bootstrap=bootstrap)
        if bootstrap:
            await sdk.get_discovery_manager().wait_ready()
        return f"/ip4/{machine.address}/tcp/4001/p2p/{peer_id}"

    def engine() -> Any:
        return FakeEngine([MODEL], first_token_s=0.2, tokens_per_s=20, answer=lambda work: "It is a law of nature.")

    boot, *rest = (net.machine(name) for name in ("boot", "host1", "host2", "client1", "client2"))
    wanted = HostCriteria(required_models=[MODEL])
    async with (
        boot.open_sdk(serve_dht=True) as boot_sdk,
        rest[0].open_sdk(serve_dht=True) as host1,
        rest[1].open_sdk(serve_dht=True) as host2,
        rest[2].open_sdk() as client1,
        rest[3].open_sdk(ephemeral_key=True) as client2,
    ):
        address = await start(boot_sdk, boot)
        for sdk, machine in zip((host1, host2, client1, client2), rest, strict=True):
            await start(sdk, machine, address)
        offer = make_description(MODEL, price_micros_per_mtok=250_000, max_concurrent_jobs=2)
        async with host1.get_host_manager().serve(offer, engine()), host2.get_host_manager().serve(offer, engine()):
            await trio.sleep(60)
            for client in (client1, client2):
                choice = await client.get_discovery_manager().find_host(wanted)
                async with (
                    client.get_session_manager().open_session(choice, spending_limit_micros=1000) as session,
                    client.get_job_manager().run(session, prompt="why?") as job,
                ):
                    text = await job.read_text()
                status = client.get_status_client()
                await status.ping(choice.peer_id)
                async with status.watch_status(choice.peer_id, min_interval_s=1.0) as watch:
                    await anext(aiter(watch))
            (listening,) = client2.get_discovery_manager().listen_addresses()
            peer = await client1.get_discovery_manager().connect_to_peer(listening.replace("0.0.0.0", rest[3].address))
            client2.get_discovery_manager().on_message(_ignore)
            await client1.get_discovery_manager().send_message(peer, {"type": "greeting", "data": "hello"})
            look(client1, host1)
        try:
            await client1.get_discovery_manager().find_host(wanted)
        except NoHostFoundError:
            return str(text)
        raise AssertionError("a host is found that has withdrawn")


async def _ignore(message: object) -> None:
    pass


# --- lines ---


def lines(measured: Any) -> dict[str, tuple[int, int]]:
    """Return of each file how many lines of functions ran, and how many there are. Of imports nothing counts."""
    counts = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if name.startswith(("testing", "cli", "protoc", "schema", "v1", "net/libp2p")):
            continue
        _, statements, _, missing, _ = measured.analysis2(str(path))
        inside = {
            line
            for each in ast.walk(ast.parse(path.read_text()))
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            for part in each.body
            for line in range(part.lineno, (part.end_lineno or part.lineno) + 1)
        }
        counted = inside & {*statements}
        counts[name] = (len(counted - {*missing}), len(counted))
    return counts


def main() -> None:
    """Run the scenario and print what it was."""
    modules = import_all()
    before = attributes(modules)
    from hostmesh.testing import run_sim

    seen: dict[str, Any] = {}
    called: dict[int, tuple[str, CodeType]] = {}

    def look(client: object, host: object) -> None:
        seen["of the kit in a client"], seen["of the kit in a host"] = kit_objects(client), kit_objects(host)
        seen["replaced while nodes ran"] = replaced(before, attributes(modules))

    def profile(frame: Any, event: str, _: object) -> None:
        if event == "call":
            called[id(frame.f_code)] = frame.f_globals.get("__name__", ""), frame.f_code

    measured = coverage.Coverage(data_file=None, include=[f"{ROOT}/*"], config_file=False)
    sys.setprofile(profile)
    with measured.collect():
        run = run_sim(partial(scenario, look=look), seed=1)
    sys.setprofile(None)
    seen["replaced afterwards"] = replaced(before, attributes(modules))
    seen["altered"] = altered(modules, before)
    seen["text"] = run.result
    ours = [
        (Path(code.co_filename), code.co_qualname)
        for module, code in called.values()
        if module.partition(".")[0] == "hostmesh" and not code.co_filename.startswith("<")
    ]
    inside = [(path.relative_to(ROOT).with_suffix(""), name) for path, name in ours if path.is_relative_to(ROOT)]
    seen["root"] = str(ROOT)
    seen["functions"] = sorted(f"{path.as_posix()}:{name}" for path, name in inside)
    # Another copy of hostmesh, say.
    seen["elsewhere"] = sorted({f"{path}" for path, _ in ours if not path.is_relative_to(ROOT)})
    seen["lines"] = lines(measured)
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
