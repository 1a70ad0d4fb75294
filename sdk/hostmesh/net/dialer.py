"""Dialling a peer: all its addresses, each with its own deadline, a little apart, the first to answer wins.

The order of events: addresses that the policy forbids are dropped; DNS names are resolved (with a deadline, and their
answers go through the same policy); attempts start one after another, at once when one fails and after a quarter of a
second while one is pending; the first that succeeds cancels the others. The whole ends by the caller's deadline.

Source: RFC 8305, "Happy Eyeballs Version 2", for the staggering; its connection attempt delay is 250 ms.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from hostmesh.errors import DialError, InvalidAddressError
from hostmesh.net.address import (
    MAX_ADDRESSES_PER_PEER,
    AddressOrigin,
    AddressScope,
    Endpoint,
    may_dial,
    parse_address,
)
from hostmesh.net.dial_policy import DialLimiter
from hostmesh.net.network import Network
from hostmesh.system import System

STAGGER_S = 0.25
"""Head start of an attempt. Source: RFC 8305, section 5."""
ADDRESS_TIMEOUT_S = 10.0
"""One address: connecting and the handshake. Chosen here: three SYNs at 1, 3 and 7 s."""
DNS_TIMEOUT_S = 5.0
MAX_ANSWERS = 4
"""Addresses used of one name."""

_STAGES = ("address", "limit", "dns", "dial", "timeout", "handshake")
"""From the earliest to the latest; a failure is reported by the latest that an attempt reached."""

T = TypeVar("T")


class AttemptFailedError(Exception):
    """One attempt failed: ``stage`` and a text. Stays inside ``net``."""

    def __init__(self, stage: str, text: str) -> None:
        super().__init__(text)
        self.stage = stage


@dataclass(slots=True)
class _Race(Generic[T]):
    open_connection: Callable[[Endpoint], Awaitable[T]]
    discard: Callable[[T], Awaitable[None]]
    candidates: deque[tuple[str, Endpoint, AddressOrigin]] = field(default_factory=deque)
    attempts: dict[str, tuple[str, str]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    busy: int = 0
    started: int = 0
    winner: tuple[T, str] | None = None
    changed: trio.Event = field(default_factory=trio.Event)

    def tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class Dialer:
    """Dials peers through a network.

    Args:
        network: resolves names.
        system: the clock of the rate limits.
    """

    def __init__(self, network: Network, *, system: System) -> None:
        self._network = network
        self._system = system
        self._limiter = DialLimiter()

    async def dial(
        self,
        addresses: Sequence[tuple[str, AddressOrigin]],
        open_connection: Callable[[Endpoint], Awaitable[T]],
        discard: Callable[[T], Awaitable[None]],
        *,
        own_scopes: frozenset[AddressScope],
        timeout_s: float,
    ) -> tuple[T, str]:
        """Connect by the first address that works.

        Args:
            open_connection: connects to an IP endpoint and shakes hands; raises :class:`AttemptFailedError` or OSError.
            discard: closes a connection that nobody wants any more; bounded in time.
            addresses: where to try and who said so, best first; at most 16 are tried.
            own_scopes: scopes that this node lives in.
            timeout_s: seconds for everything.

        Returns:
            The connection, and the address that worked.

        Raises:
            DialError: none worked in time; ``attempts`` says for each why. Nothing is left open.

        Cancellation: safe; nothing is left open.
        """
        race: _Race[T] = _Race(open_connection, discard)
        try:
            with trio.move_on_after(timeout_s):
                async with trio.open_nursery() as nursery:
                    for text, origin in addresses[:MAX_ADDRESSES_PER_PEER]:
                        self._enter(race, nursery, text, origin, own_scopes)
                    await self._start_attempts(race, nursery, timeout_s)
                    nursery.cancel_scope.cancel()
        except BaseException:
            # The caller was cancelled after an attempt had won, and takes no connection any more.
            if race.winner is not None:
                with trio.CancelScope(shield=True):
                    await discard(race.winner[0])
            raise
        if race.winner is not None:
            return race.winner
        stage = max((stage for stage, _ in race.attempts.values()), key=_STAGES.index, default="address")
        attempts = {address: f"{stage}: {text}" for address, (stage, text) in race.attempts.items()}
        tried = "; ".join(f"{address} {outcome}" for address, outcome in attempts.items())
        raise DialError(
            f"no address answered ({tried})" if attempts else "no address is known",
            stage=stage,
            attempts=attempts,
            remedy="check that the peer runs and that its address and port can be reached from here",
        )

    def _enter(
        self,
        race: _Race[T],
        nursery: trio.Nursery,
        text: str,
        origin: AddressOrigin,
        own_scopes: frozenset[AddressScope],
    ) -> None:
        try:
            endpoint = parse_address(text)
            if not may_dial(text, origin, own_scopes):
                race.attempts[text] = ("address", "not dialled: only our own network leads there")
                return
        except InvalidAddressError as error:
            race.attempts[text] = ("address", error.message)
            return
        if endpoint.is_name:
            race.busy += 1
            race.attempts[text] = ("dns", "no answer in time")
            nursery.start_soon(self._resolve, race, endpoint, origin, own_scopes)
        else:
            self._add(race, text, endpoint, origin)

    def _add(self, race: _Race[T], label: str, endpoint: Endpoint, origin: AddressOrigin) -> None:
        if str(endpoint) not in race.seen and len(race.seen) < MAX_ADDRESSES_PER_PEER:
            race.seen.add(str(endpoint))
            race.candidates.append((label, endpoint, origin))

    async def _resolve(
        self, race: _Race[T], endpoint: Endpoint, origin: AddressOrigin, own_scopes: frozenset[AddressScope]
    ) -> None:
        label = str(endpoint)
        try:
            with trio.fail_after(DNS_TIMEOUT_S):
                answers = await self._network.resolve(
                    endpoint.host, version={"dns": None, "dns4": 4, "dns6": 6}[endpoint.kind]
                )
            race.attempts[label] = ("dns", "the name has no address that may be dialled")
            for answer in answers[:MAX_ANSWERS]:
                target = endpoint.with_host(answer)
                if may_dial(str(target), origin, own_scopes):
                    race.attempts.pop(label, None)
                    self._add(race, str(target), target, origin)
        except trio.TooSlowError:
            race.attempts[label] = ("dns", "no answer in time")
        except (OSError, ValueError) as error:
            race.attempts[label] = ("dns", _words(error))
        finally:
            race.busy -= 1
            race.tell()

    async def _start_attempts(self, race: _Race[T], nursery: trio.Nursery, timeout_s: float) -> None:
        while race.winner is None and (race.candidates or race.busy):
            if race.candidates:
                label, endpoint, origin = race.candidates.popleft()
                race.busy += 1
                race.attempts[label] = ("timeout", "no answer in time")
                nursery.start_soon(self._attempt, race, label, endpoint, origin, timeout_s)
            with trio.move_on_after(STAGGER_S if race.candidates else float("inf")):
                await race.changed.wait()

    async def _attempt(
        self, race: _Race[T], label: str, endpoint: Endpoint, origin: AddressOrigin, timeout_s: float
    ) -> None:
        try:
            if origin is AddressOrigin.REMOTE and not self._limiter.allow(
                str(ipaddress.ip_address(endpoint.host)), endpoint.port, now=self._system.monotonic_s()
            ):
                race.attempts[label] = ("limit", "dialled too often lately")
                return
            with trio.fail_after(min(ADDRESS_TIMEOUT_S, timeout_s)):
                connection = await race.open_connection(endpoint)
            if race.winner is None:
                race.winner = (connection, label)
            else:
                await race.discard(connection)
        except trio.TooSlowError:
            race.attempts[label] = ("timeout", "no answer in time")
        except AttemptFailedError as error:
            race.attempts[label] = (error.stage, str(error))
        except OSError as error:
            race.attempts[label] = ("dial", _words(error))
        finally:
            race.busy -= 1
            race.tell()


def _words(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
