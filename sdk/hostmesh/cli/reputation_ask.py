"""``hostmesh reputation ask``: asks peers for receipts that they share, for this user's reputations."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from hostmesh.cli import options
from hostmesh.cli.boundary import error_object, print_json
from hostmesh.cli.groups import NodeOptions, grouped
from hostmesh.cli.options import invocation
from hostmesh.cli.terminal import escape
from hostmesh.errors import HostmeshError, ProtocolNotSupportedError

if TYPE_CHECKING:
    from hostmesh.cli.peer import PeerName
    from hostmesh.net.peer_id import PeerId
    from hostmesh.receipt_exchange import AskedPeers, PeerAnswer
    from hostmesh.sdk import SDK


@grouped
def ask_reputation(
    context: typer.Context,
    host: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="HOST", help="Peer ids, at most 16. Default: whatever the peers share.", show_default=False
        ),
    ] = None,
    *,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            "--peer", metavar="MULTIADDR", help="Ask this peer: /ip4/.../tcp/.../p2p/ID. Repeat. Default: hosts."
        ),
    ] = None,
    node: NodeOptions,
    timeout_s: options.TimeoutS = 10.0,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Ask peers for receipts that they share, and take what these tell of hosts into your reputations, for little.

    The peers learn about which hosts you ask, and that you do. Exit code 5: none of them answered.
    """
    from hostmesh.cli.client import client_sdk, fresh_wallet
    from hostmesh.cli.peer import parse_peer

    state = invocation(context)
    loaded = state.load(verbose=verbose, **node.settings())
    hosts = [parse_peer(each).peer_id for each in host or ()]
    named = [parse_peer(each) for each in peer or ()]

    async def ask() -> None:
        async with client_sdk(loaded, fresh_wallet()) as sdk:
            if named:
                peers = await _reach(sdk, named, timeout_s=timeout_s)
            else:
                # Hosts are peers too, and the ones that a client can find.
                await sdk.get_discovery_manager().explain(timeout_s=timeout_s)
                peers = sdk.get_receipt_exchange().peers_to_ask(hosts)
            print(f"asking {len(peers)} peers", file=sys.stderr)
            asked = await sdk.get_receipt_exchange().ask(hosts, peers=peers, timeout_s=timeout_s)
        for each in asked.answers:
            print(answer_line(each), file=sys.stderr)
        asked.require_answer()
        if as_json:
            print_json(asked_object(asked))
            return
        print(f"{asked.reviews} reviews of hosts taken in")
        for change in asked.changes:
            of = f"{change.name.peer_id} of {change.name.operator}" if change.name.operator else change.name.peer_id
            print(f"{of}: {change.points_before} -> {change.points} of 1000 points")
        for unknown in dict.fromkeys(hosts):
            if all(change.name.peer_id != unknown for change in asked.changes):
                print(f"{unknown}: nothing is known of it")

    state.interrupts.run(ask)


def answer_line(answer: PeerAnswer) -> str:
    """Return what one peer said, as a person reads it."""
    if isinstance(answer.error, ProtocolNotSupportedError):
        return f"{answer.peer_id}  shares no receipts"
    if answer.taken is None:
        why = "" if answer.error is None else f": {answer.error.code}: {escape(answer.error.message)}"
        return f"{answer.peer_id}  told nothing{why}"
    taken = answer.taken
    line = f"{answer.peer_id}  {taken.sessions} sessions, {taken.reviews} reviews: {taken.good} good, {taken.bad} bad"
    left_out = taken.own + taken.of_own_host + taken.not_newer
    if left_out:
        line += f"; {left_out} left out: your own, an operator's own, or no more than was known"
    return line if answer.is_whole else f"{line}; not all that it shares"


def asked_object(asked: AskedPeers) -> dict[str, object]:
    """Return what came of asking as JSON takes it."""
    return {
        "reviews": asked.reviews,
        "peers": [
            {
                "peer_id": each.peer_id,
                "pages": each.pages,
                "is_whole": each.is_whole,
                "taken": None if each.taken is None else asdict(each.taken),
                **({} if each.error is None else error_object(each.error)),
            }
            for each in asked.answers
        ],
        "hosts": [
            {
                "peer_id": each.name.peer_id,
                "operator": each.name.operator,
                "points_before": each.points_before,
                "points": each.points,
            }
            for each in asked.changes
        ],
    }


async def _reach(sdk: SDK, named: list[PeerName], *, timeout_s: float) -> tuple[PeerId, ...]:
    """Connect to the peers that were named by an address. Return all: asking says why one is not there."""
    for each in named:
        if each.address:
            try:
                await sdk.get_discovery_manager().connect_to_peer(each.address, timeout_s)
            except HostmeshError as error:
                print(f"{each.peer_id}  not reached: {error.code}: {escape(error.message)}", file=sys.stderr)
    return tuple(each.peer_id for each in named)
