"""The dialer in virtual time, on a network that is a table."""

from __future__ import annotations

import pytest
import trio

from hostmesh.errors import DialError
from hostmesh.net.address import AddressOrigin, AddressScope, Endpoint
from hostmesh.net.dialer import ADDRESS_TIMEOUT_S, DNS_TIMEOUT_S, STAGGER_S, AttemptFailedError, Dialer
from hostmesh.system import System

NOWHERE: frozenset[AddressScope] = frozenset()
CONFIGURED, REMOTE = AddressOrigin.CONFIGURED, AddressOrigin.REMOTE


def _ip(index: int) -> str:
    return f"/ip4/9.9.9.{index}/tcp/4001"


class World:
    """Says per address how long it takes and how it ends."""

    def __init__(self) -> None:
        self.behaviours: dict[str, tuple[float, Exception | None]] = {}
        self.names: dict[str, tuple[str, ...] | float] = {}
        self.started: list[tuple[float, str]] = []
        self.open: set[str] = set()
        self.discarded: list[str] = []
        self.dialer = Dialer(self, system=System(monotonic_s=trio.current_time))  # type: ignore[arg-type]

    async def resolve(self, name: str, *, version: int | None = None) -> tuple[str, ...]:
        answer = self.names.get(name, ())
        if isinstance(answer, float):
            await trio.sleep(answer)
            return ("9.9.9.9",)
        await trio.lowlevel.checkpoint()
        if not answer:
            raise OSError(-2, "Name or service not known")
        return tuple(each for each in answer if version is None or (version == 6) == (":" in each))

    async def open_connection(self, endpoint: Endpoint) -> str:
        address = str(endpoint)
        self.started.append((round(trio.current_time(), 3), address))
        delay_s, error = self.behaviours.get(address, (float("inf"), None))
        self.open.add(address)
        try:
            await trio.sleep(delay_s)
        except BaseException:
            self.open.remove(address)
            raise
        if error is not None:
            self.open.remove(address)
            raise error
        return address

    async def discard(self, address: str) -> None:
        self.discarded.append(address)
        self.open.remove(address)

    async def dial(
        self,
        *addresses: str,
        origin: AddressOrigin = CONFIGURED,
        own_scopes: frozenset[AddressScope] = NOWHERE,
        timeout_s: float = 30.0,
    ) -> str:
        connection, address = await self.dialer.dial(
            [(address, origin) for address in addresses],
            self.open_connection,
            self.discard,
            own_scopes=own_scopes,
            timeout_s=timeout_s,
        )
        assert connection == address
        return address


@pytest.fixture
def world():
    return World()


async def test_a_black_hole_costs_a_quarter_of_a_second(autojump_clock, world):
    world.behaviours[_ip(2)] = (0.05, None)
    assert await world.dial(_ip(1), _ip(2)) == _ip(2)
    assert trio.current_time() == pytest.approx(STAGGER_S + 0.05)
    assert world.open == {_ip(2)}


async def test_a_refusal_starts_the_next_at_once(autojump_clock, world):
    world.behaviours = {
        _ip(1): (0.001, ConnectionRefusedError(111, "Connection refused")),
        _ip(2): (0.001, AttemptFailedError("handshake", "the peer there is another one")),
        _ip(3): (0.01, None),
    }
    assert await world.dial(_ip(1), _ip(2), _ip(3)) == _ip(3)
    assert trio.current_time() == pytest.approx(0.012)


async def test_fifteen_black_holes_before_the_good_address(autojump_clock, world):
    world.behaviours[_ip(16)] = (0.0, None)
    assert await world.dial(*[_ip(index) for index in range(1, 17)]) == _ip(16)
    assert trio.current_time() == pytest.approx(15 * STAGGER_S)
    assert world.open == {_ip(16)}


async def test_no_more_than_sixteen_addresses_are_tried(autojump_clock, world):
    world.behaviours[_ip(17)] = (0.0, None)
    with pytest.raises(DialError) as caught:
        await world.dial(*[_ip(index) for index in range(1, 18)])
    assert len(world.started) == len(caught.value.attempts) == 16


async def test_every_address_has_its_own_deadline(autojump_clock, world):
    with pytest.raises(DialError) as caught:
        await world.dial(_ip(1), _ip(2))
    assert trio.current_time() == pytest.approx(STAGGER_S + ADDRESS_TIMEOUT_S)
    assert caught.value.stage == "timeout"
    assert set(caught.value.attempts) == {_ip(1), _ip(2)}
    assert not world.open


async def test_the_whole_has_the_callers_deadline(autojump_clock, world):
    with pytest.raises(DialError) as caught:
        await world.dial(_ip(1), _ip(2), timeout_s=0.4)
    assert trio.current_time() == pytest.approx(0.4)
    assert caught.value.stage == "timeout"
    assert not world.open


@pytest.mark.parametrize(
    ("errors", "stage"),
    [
        ([ConnectionRefusedError(111, "Connection refused")], "dial"),
        ([ConnectionRefusedError(111, "x"), AttemptFailedError("handshake", "y")], "handshake"),
        ([AttemptFailedError("handshake", "y"), OSError(113, "No route to host")], "handshake"),
    ],
)
async def test_failure_names_the_latest_stage_and_every_address(autojump_clock, world, errors, stage):
    addresses = [_ip(index) for index in range(len(errors))]
    world.behaviours = {address: (0.001, error) for address, error in zip(addresses, errors, strict=True)}
    with pytest.raises(DialError) as caught:
        await world.dial(*addresses)
    assert caught.value.stage == stage
    assert list(caught.value.attempts) == addresses
    assert caught.value.retry_safe
    assert not caught.value.may_have_executed
    assert caught.value.remedy
    assert "\n" not in caught.value.message


async def test_no_address_at_all(autojump_clock, world):
    with pytest.raises(DialError) as caught:
        await world.dial()
    assert (caught.value.stage, caught.value.attempts) == ("address", {})


@pytest.mark.parametrize("address", ["/ip4/127.0.0.1/tcp/22", "/ip4/10.0.0.1/tcp/22", "/ip4/169.254.169.254/tcp/80"])
async def test_strangers_do_not_lead_into_our_network(autojump_clock, world, address):
    world.behaviours[address] = (0.0, None)
    with pytest.raises(DialError) as caught:
        await world.dial(address, origin=REMOTE)
    assert caught.value.stage == "address"
    assert world.started == []


async def test_own_scope_opens_the_way(autojump_clock, world):
    world.behaviours["/ip4/10.0.0.1/tcp/22"] = (0.0, None)
    await world.dial("/ip4/10.0.0.1/tcp/22", origin=REMOTE, own_scopes=frozenset({AddressScope.PRIVATE}))


async def test_malformed_addresses_are_reported_and_skipped(autojump_clock, world):
    world.behaviours[_ip(1)] = (0.0, None)
    assert await world.dial("/ip4/9.9.9.9/udp/1/quic-v1", _ip(1)) == _ip(1)


async def test_names_are_resolved(autojump_clock, world):
    world.names["a.example"] = ("9.9.9.7", "2606:4700::7")
    world.behaviours["/ip6/2606:4700::7/tcp/4001/ws"] = (0.0, None)
    assert await world.dial("/dns/a.example/tcp/4001/ws") == "/ip6/2606:4700::7/tcp/4001/ws"


@pytest.mark.parametrize(("kind", "tried"), [("dns4", "/ip4/9.9.9.7"), ("dns6", "/ip6/2606:4700::7")])
async def test_names_of_one_version(autojump_clock, world, kind, tried):
    world.names["a.example"] = ("9.9.9.7", "2606:4700::7")
    with pytest.raises(DialError):
        await world.dial(f"/{kind}/a.example/tcp/4001")
    assert [address for _, address in world.started] == [f"{tried}/tcp/4001"]


@pytest.mark.parametrize("answer", ["127.0.0.1", "10.1.1.1", "169.254.169.254", "::1", "fe80::1%eth0", "0.0.0.0"])
async def test_answers_of_a_strangers_name_are_checked_again(autojump_clock, world, answer):
    world.names["evil.example"] = (answer,)
    with pytest.raises(DialError) as caught:
        await world.dial("/dns/evil.example/tcp/80", origin=REMOTE)
    assert caught.value.stage == "dns"
    assert world.started == []


async def test_a_configured_name_may_lead_to_our_own_network(autojump_clock, world):
    world.names["nas.example"] = ("192.168.1.2",)
    world.behaviours["/ip4/192.168.1.2/tcp/4001"] = (0.0, None)
    await world.dial("/dns/nas.example/tcp/4001")


async def test_a_slow_name_holds_nothing_up(autojump_clock, world):
    world.names["slow.example"] = 60.0
    world.behaviours[_ip(1)] = (0.1, None)
    assert await world.dial("/dns/slow.example/tcp/4001", _ip(1)) == _ip(1)
    assert trio.current_time() == pytest.approx(0.1)


async def test_resolving_has_a_deadline(autojump_clock, world):
    world.names["slow.example"] = 60.0
    with pytest.raises(DialError) as caught:
        await world.dial("/dns/slow.example/tcp/4001")
    assert trio.current_time() == pytest.approx(DNS_TIMEOUT_S)
    assert caught.value.stage == "dns"


async def test_an_unknown_name_is_a_dns_failure(autojump_clock, world):
    with pytest.raises(DialError) as caught:
        await world.dial("/dns/unknown.example/tcp/4001")
    assert caught.value.stage == "dns"
    assert "Name or service not known" in caught.value.message


async def test_a_name_with_many_answers_gives_four(autojump_clock, world):
    world.names["many.example"] = tuple(f"9.9.9.{index}" for index in range(50))
    with pytest.raises(DialError):
        await world.dial("/dns/many.example/tcp/4001")
    assert len(world.started) == 4


async def test_the_same_address_twice_is_tried_once(autojump_clock, world):
    world.names["a.example"] = ("9.9.9.1",)
    with pytest.raises(DialError):
        await world.dial(_ip(1), "/dns/a.example/tcp/4001", _ip(1))
    assert len(world.started) == 1


async def test_two_that_succeed_at_the_same_moment_leave_one(autojump_clock, world):
    world.behaviours = {_ip(1): (STAGGER_S + 0.1, None), _ip(2): (0.1, None)}
    winner = await world.dial(_ip(1), _ip(2))
    assert world.open == {winner}


async def test_dials_for_strangers_are_limited(autojump_clock, world):
    world.behaviours[_ip(1)] = (0.0, ConnectionRefusedError(111, "refused"))
    stages = []
    for _ in range(20):
        with pytest.raises(DialError) as caught:
            await world.dial(_ip(1), origin=REMOTE)
        stages.append(caught.value.stage)
    assert stages == ["dial"] * 16 + ["limit"] * 4
    with pytest.raises(DialError) as caught:
        await world.dial(_ip(1), origin=CONFIGURED)
    assert caught.value.stage == "dial"


async def test_cancellation_leaves_nothing_open(autojump_clock, world):
    with trio.move_on_after(1.0):
        await world.dial(_ip(1), _ip(2), _ip(3))
    assert len(world.started) == 3
    assert not world.open


async def test_cancelled_after_an_attempt_won_leaves_nothing_open(autojump_clock, world):
    world.behaviours = {_ip(1): (0.1, None), _ip(2): (float("inf"), None)}
    with trio.CancelScope() as scope:
        # The cancellation comes with the success: the winner is known, and nobody has taken it yet.
        async def cancel_with_the_winner(endpoint: Endpoint) -> str:
            address = await world.open_connection(endpoint)
            scope.cancel()
            return address

        await world.dialer.dial(
            [(_ip(1), CONFIGURED), (_ip(2), CONFIGURED)],
            cancel_with_the_winner,
            world.discard,
            own_scopes=NOWHERE,
            timeout_s=5.0,
        )
    assert scope.cancelled_caught
    assert world.discarded == [_ip(1)]
    assert world.open == set()
