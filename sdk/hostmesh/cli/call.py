"""``hostmesh call``: any method of any service that a node serves."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from hostmesh.cli import options
from hostmesh.cli.groups import NodeOptions, grouped
from hostmesh.cli.options import invocation
from hostmesh.cli.peer import PeerArgument
from hostmesh.errors import UsageError

if TYPE_CHECKING:
    from hostmesh.cli.call_shapes import CallOptions

_Target = Annotated[str, typer.Argument(metavar="SERVICE.METHOD", help="With or without its package.")]
_Request = Annotated[
    str | None, typer.Argument(metavar="JSON", help="The request; - reads standard input. Default: an empty one.")
]
_CallTimeout = Annotated[
    float | None,
    typer.Option("--timeout-s", min=0.01, metavar="S", help="Seconds for the call. Default: the method's."),
]
_FindTimeout = Annotated[
    float, typer.Option("--find-timeout-s", min=0.01, metavar="S", help="Seconds for the peer and its description.")
]


@grouped
def call(
    context: typer.Context,
    peer: PeerArgument,
    target: _Target,
    request: _Request = None,
    *,
    timeout_s: _CallTimeout = None,
    find_timeout_s: _FindTimeout = 10.0,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", metavar="KEY=VALUE", help="Send with the call. Repeat.")
    ] = None,
    idempotency_key: Annotated[
        str, typer.Option("--idempotency-key", metavar="KEY", help="The same key has the same effect once.")
    ] = "",
    session: Annotated[str, typer.Option("--session", metavar="HEX", help="Session id, 16 bytes in hex.")] = "",
    node: NodeOptions,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Call a method of a running node, which is asked for its description first; print each response as JSON.

    Where requests are a stream they are read from standard input, one JSON object a line, as they come. Ctrl-C cancels
    the call on the peer.
    """
    state = invocation(context)
    loaded = state.load(verbose=verbose, **node.settings())
    from hostmesh.cli.call_shapes import make_call, print_failure
    from hostmesh.cli.peer import find_method, find_service, list_services, parse_peer, peer_sdk
    from hostmesh.errors import HostmeshError
    from hostmesh.reflection.client import ReflectionClient

    asked = parse_peer(peer)
    service_name, _, method_name = target.rpartition(".")
    if not service_name or not method_name:
        raise UsageError(f"{target} names no method", remedy="name it as SERVICE.METHOD: StatusService.Ping")
    given = call_options(metadata or (), idempotency_key, session, timeout_s)

    async def find_and_call() -> None:
        async with peer_sdk(loaded, asked, timeout_s=find_timeout_s) as sdk:
            rpc = sdk.get_rpc_client()
            client = ReflectionClient(rpc, asked.peer_id)
            service = find_service(await list_services(client, timeout_s=find_timeout_s), service_name)
            schema = await client.describe([service.full_name], timeout_s=find_timeout_s)
            method = find_method(schema.methods[service.full_name], service.full_name, method_name)
            try:
                await make_call(rpc, asked.peer_id, method, schema, request, given)
            except HostmeshError as error:
                if not as_json:
                    print_failure(error, sys.stderr)
                raise

    state.interrupts.run(find_and_call)


def call_options(
    metadata: list[str] | tuple[str, ...], idempotency_key: str, session: str, timeout_s: float | None
) -> CallOptions:
    """Return what is sent besides requests.

    Raises:
        UsageError: an option is malformed.
    """
    from hostmesh.cli.call_shapes import CallOptions

    pairs: dict[str, str] = {}
    for each in metadata:
        name, separator, value = each.partition("=")
        if not name or not separator or name in pairs:
            raise UsageError(
                f"--metadata {each} is no KEY=VALUE, or its key is there twice", remedy="--metadata lang=en"
            )
        pairs[name] = value
    try:
        session_id = bytes.fromhex(session)
    except ValueError as error:
        raise UsageError("--session is no hex", remedy="give 32 digits") from error
    if session_id and len(session_id) != 16:
        raise UsageError(f"--session has {len(session_id)} bytes", remedy="give 32 digits, which are 16 bytes")
    return CallOptions(
        metadata=pairs, idempotency_key=idempotency_key.encode(), session_id=session_id, timeout_s=timeout_s
    )
