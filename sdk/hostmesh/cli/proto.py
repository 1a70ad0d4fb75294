"""``hostmesh proto``: what can be told of protocols, from their .proto files or by a node that speaks them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hostmesh.cli import options
from hostmesh.cli.boundary import EXIT_CHECK, print_json
from hostmesh.cli.groups import NodeOptions, grouped
from hostmesh.cli.options import AsJson, Verbose, invocation
from hostmesh.cli.peer import PeerArgument
from hostmesh.cli.terminal import escape
from hostmesh.errors import UsageError

if TYPE_CHECKING:
    from hostmesh.reflection.peer_schema import PeerSchema
    from hostmesh.rpc.method import AnyMethod
    from hostmesh.schema.change import Change

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Check .proto files; ask a node for its own.")


@app.command()
def check(
    context: typer.Context,
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Released: a descriptor set, a .proto file or a folder.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="What shall take its place, likewise.")],
    strict: Annotated[bool, typer.Option("--strict", help="Refuse too what breaks JSON or code only.")] = False,
    proto_path: Annotated[
        list[Path] | None, typer.Option("--proto-path", metavar="FOLDER", help="Look here for imports too. Repeat.")
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Refuse a change by which old and new peers would not understand each other, and explain it.

    Exit code 9: there is one.
    """
    invocation(context).load(verbose=verbose)
    from hostmesh.schema.compatibility import compare_schemas, refused
    from hostmesh.schema.files import load_files
    from hostmesh.schema.model import read_schema

    before, after = (read_schema(load_files(path, proto_path or ()), source=str(path)) for path in (old, new))
    changes = compare_schemas(before, after)
    refusals = refused(changes, strict=strict)
    if as_json:
        print_json(
            {
                "compatible": not refusals,
                "refused": len(refusals),
                "allowed": len(changes) - len(refusals),
                "changes": [each.to_dict() | {"refused": each in refusals} for each in changes],
            }
        )
    else:
        for each in changes:
            print(_block(each, is_refused=each in refusals))
        print(_summary(len(refusals), len(changes) - len(refusals)))
    if refusals:
        raise typer.Exit(EXIT_CHECK)


@app.command()
@grouped
def describe(
    context: typer.Context,
    peer: PeerArgument,
    target: Annotated[
        str | None, typer.Argument(metavar="SERVICE[.METHOD]", help="With or without its package. Default: all.")
    ] = None,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the descriptors here, for proto check."),
    ] = None,
    node: NodeOptions,
    timeout_s: options.TimeoutS = 10.0,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Ask a running node what it serves: services, versions, methods with their shape and limits.

    With a METHOD: its messages too, nearly as their .proto has them.
    """
    state = invocation(context)
    loaded = state.load(verbose=verbose, **node.settings())
    from hostmesh.cli.peer import find_method, find_target, list_services, parse_peer, peer_sdk
    from hostmesh.reflection.client import ReflectionClient

    asked = parse_peer(peer)

    async def ask() -> None:
        async with peer_sdk(loaded, asked, timeout_s=timeout_s) as sdk:
            client = ReflectionClient(sdk.get_rpc_client(), asked.peer_id)
            services = await list_services(client, timeout_s=timeout_s)
            names, method_name = [each.full_name for each in services], ""
            if target is not None:
                service, method_name = find_target(services, target)
                names = [service.full_name]
            schema = await client.describe(names, timeout_s=timeout_s)
        if method_name:
            find_method(schema.methods[names[0]], names[0], method_name)
        if out is not None:
            _write(out, schema)
        prefix = loaded.settings.protocol_prefix
        if as_json:
            print_json({"peer_id": asked.peer_id} | _description(schema, method_name, prefix))
        else:
            print("\n\n".join(_texts(schema, method_name, prefix)))

    state.interrupts.run(ask)


def _description(schema: PeerSchema, method_name: str, prefix: str) -> dict[str, object]:
    from hostmesh.cli.describe import enum_object, message_object, service_object, types_of
    from hostmesh.reflection.comments import comments_of

    comments = comments_of(schema.files)
    described: dict[str, object] = {
        "services": [
            service_object(schema, name, _chosen(schema, name, method_name), prefix, comments)
            for name in schema.services
        ]
    }
    if method_name:
        (methods,) = schema.methods.values()
        messages, enums = types_of(schema.definitions(), methods[method_name])
        described["messages"] = [message_object(each) for each in messages]
        described["enums"] = [enum_object(each) for each in enums]
    return described


def _texts(schema: PeerSchema, method_name: str, prefix: str) -> Iterator[str]:
    from hostmesh.cli.describe import service_text, types_of, types_text
    from hostmesh.reflection.comments import comments_of

    comments = comments_of(schema.files)
    for name in schema.services:
        yield service_text(schema, name, _chosen(schema, name, method_name), prefix, comments)
    if method_name:
        (methods,) = schema.methods.values()
        yield from types_text(*types_of(schema.definitions(), methods[method_name]))


def _chosen(schema: PeerSchema, service: str, method_name: str) -> Mapping[str, AnyMethod]:
    methods = schema.methods[service]
    return {method_name: methods[method_name]} if method_name else methods


def _write(file: Path, schema: PeerSchema) -> None:
    try:
        file.write_bytes(schema.file_set().SerializeToString(deterministic=True))
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}", remedy="name a file that can be written") from error


def _block(change: Change, *, is_refused: bool) -> str:
    head = "refused" if is_refused else "warning"
    rows = {
        "was": change.was,
        "now": change.now,
        "breaks": ", ".join(layer.value for layer in change.layers),
        "between": ", ".join(pairing.value for pairing in change.pairings),
        "why": change.why,
        "remedy": change.remedy,
    }
    lines = [f"{head} {change.kind}: {escape(change.place)} ({escape(change.file)})"]
    lines += [f"  {name:<8} {escape(text)}" for name, text in rows.items() if text]
    return "\n".join(lines) + "\n"


def _summary(refused: int, allowed: int) -> str:
    """Return the last line.

    >>> _summary(2, 1), _summary(0, 0)
    ('incompatible: 2 changes refused, 1 warning', 'compatible: 0 warnings')
    """
    warnings = f"{allowed} warning{'' if allowed == 1 else 's'}"
    if refused:
        return f"incompatible: {refused} change{'' if refused == 1 else 's'} refused, {warnings}"
    return f"compatible: {warnings}"
