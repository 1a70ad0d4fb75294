"""One peer, as commands name it: how it is reached, and which of its services and methods is meant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from hostmesh.cli.client import client_sdk, fresh_wallet
from hostmesh.errors import DialError, InvalidAddressError, ProtocolNotSupportedError, UsageError

if TYPE_CHECKING:
    from hostmesh.net.peer_id import PeerId
    from hostmesh.reflection.client import ReflectionClient, ServedService
    from hostmesh.rpc.method import AnyMethod
    from hostmesh.sdk import SDK
    from hostmesh.settings import LoadedSettings

PeerArgument = Annotated[
    str, typer.Argument(metavar="PEER", help="Its multiaddress with /p2p/ID, or its id where discovery finds it.")
]
_MAX_LISTED = 40


@dataclass(frozen=True, slots=True)
class PeerName:
    """A peer as it was named: ``address`` is empty where only its id was given."""

    peer_id: PeerId
    address: str


def parse_peer(text: str) -> PeerName:
    """Return the peer that an argument names.

    Raises:
        InvalidAddressError: neither a multiaddress with a peer id nor a peer id.
    """
    from hostmesh.net.address import split_peer_address
    from hostmesh.net.peer_id import parse_peer_id

    remedy = "name the peer as /ip4/ADDRESS/tcp/PORT/p2p/ID, or by its id"
    try:
        if not text.startswith("/"):
            return PeerName(parse_peer_id(text), "")
        _, peer_id = split_peer_address(text)
    except InvalidAddressError as error:
        raise InvalidAddressError(error.message, remedy=error.remedy or remedy) from error
    if peer_id is None:
        raise InvalidAddressError(f"the address {text} names no peer", remedy="append /p2p/ID, the peer's id")
    return PeerName(peer_id, text)


@asynccontextmanager
async def peer_sdk(loaded: LoadedSettings, peer: PeerName, *, timeout_s: float) -> AsyncIterator[SDK]:
    """Run a client's node for the life of the block, which knows how to reach the peer.

    Args:
        loaded: the settings.
        peer: is dialled when it was named with an address; otherwise it is looked for.
        timeout_s: for dialling or looking.

    Raises:
        DialError: it was not reached at its address.
    """
    from hostmesh.net.address import split_peer_address

    async with client_sdk(loaded, fresh_wallet()) as sdk:
        discovery = sdk.get_discovery_manager()
        configured = [each for each in loaded.settings.bootstrap_nodes if split_peer_address(each)[1] == peer.peer_id]
        addresses = [peer.address] if peer.address else configured
        if addresses:
            await discovery.connect_to_peer(addresses[0], timeout_s)
        else:
            # Hosts are found by what they serve; looking for all of them tells where this one is.
            await discovery.explain(timeout_s=timeout_s)
        yield sdk


async def list_services(client: ReflectionClient, *, timeout_s: float) -> tuple[ServedService, ...]:
    """Return what the peer serves.

    Raises:
        DialError, ProtocolNotSupportedError: with what helps here.
        As :meth:`hostmesh.reflection.client.ReflectionClient.list_services`.
    """
    try:
        return await client.list_services(timeout_s=timeout_s)
    except DialError as error:
        if error.stage == "address":
            error.remedy = "give its multiaddress: /ip4/ADDRESS/tcp/PORT/p2p/ID; only hosts are found by their id alone"
        raise
    except ProtocolNotSupportedError as error:
        error.remedy = "it tells nobody what it serves: an older version, or another protocol prefix"
        raise


def find_service(services: Sequence[ServedService], text: str) -> ServedService:
    """Return the service of that full name, or of that name without its package.

    Raises:
        UsageError: there is none, or several.
    """
    named = [each for each in services if text == each.full_name] or [
        each for each in services if text == each.full_name.rpartition(".")[2]
    ]
    if len(named) == 1:
        return named[0]
    if named:
        names = ", ".join(each.full_name for each in named)
        raise UsageError(f"the peer serves several {text}", remedy=f"name one of {names}")
    known = {name: each.full_name for each in services for name in (each.full_name, each.full_name.rpartition(".")[2])}
    raise UsageError(
        f"the peer serves no {text}", remedy=_suggest(text, known, [each.full_name for each in services], "serves")
    )


def find_target(services: Sequence[ServedService], text: str) -> tuple[ServedService, str]:
    """Return the service that ``SERVICE`` or ``SERVICE.METHOD`` names, and the method's name or nothing.

    Raises:
        UsageError: there is no such service, or there are several.
    """
    service, _, method = text.rpartition(".")
    names = {each.full_name for each in services} | {each.full_name.rpartition(".")[2] for each in services}
    if text not in names and service in names:
        return find_service(services, service), method
    return find_service(services, text), ""


def find_method(methods: Mapping[str, AnyMethod], service: str, name: str) -> AnyMethod:
    """Return the method of that name.

    Raises:
        UsageError: there is none.
    """
    if name in methods:
        return methods[name]
    raise UsageError(f"{service} has no method {name}", remedy=_suggest(name, methods, [*methods], "has"))


def _suggest(text: str, candidates: Collection[str], listed: Sequence[str], verb: str) -> str:
    by_lower = {each.lower(): each for each in candidates}
    near = get_close_matches(text.lower(), by_lower, n=1, cutoff=0.6)
    more = len(listed) - _MAX_LISTED
    names = ", ".join(listed[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
    known = f"it {verb} {names or 'nothing'}"
    return f"did you mean {by_lower[near[0]]}? {known}" if near else known
