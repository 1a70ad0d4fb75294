"""py-libp2p's Kad-DHT on nodes and on stock hosts: what one has, the other finds, over the wire."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from libp2p.kad_dht.common import PROTOCOL_ID
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.records.validator import Validator
from libp2p.tools.anyio_service import background_trio_service
from tests.integration.libp2p_host.conftest import info_of, protocols_known, stock_host, until

from hostmesh.net.libp2p_host import open_libp2p_host

KEY, VALUE = "/test/answer", b"42"
CONTENT = "1220" + bytes(range(32)).hex()  # a multihash: SHA-256, 32 bytes


class Numbers(Validator):
    """Accepts decimal numbers; the greatest is the best."""

    def validate(self, key: str, value: bytes) -> None:
        if not value.isdigit():
            raise ValueError(f"{value!r} is no number")

    def select(self, key: str, values: list[bytes]) -> int:
        return max(range(len(values)), key=lambda index: int(values[index]))


@asynccontextmanager
async def dht_on(host, mode=DHTMode.SERVER):
    dht = KadDHT(host, mode, strict_validation=True)
    dht.register_validator("test", Numbers())
    async with background_trio_service(dht):
        yield dht


@pytest.fixture
async def pair(start_node, request):
    """Yield two DHTs, one on a node, that do not know each other; the parameter says which comes first."""
    async with (
        open_libp2p_host(await start_node()) as ours,
        stock_host() as stock,
        dht_on(ours) as on_node,
        dht_on(stock) as on_stock,
    ):
        yield (on_node, on_stock) if request.param == "node first" else (on_stock, on_node)


WAYS = pytest.mark.parametrize("pair", ["node first", "stock first"], indirect=True)


async def introduce(dht, other):
    """Connect a DHT to another one, and tell it so: py-libp2p's does not look at the connections that there are."""
    await dht.host.connect(info_of(other.host))
    assert await dht.routing_table.add_peer(info_of(other.host))


def endpoints(addresses):
    """IP addresses and ports: a stock host names the peer in some of its addresses, and in some it does not."""
    return {(address.value_for_protocol("ip4"), address.value_for_protocol("tcp")) for address in addresses}


@WAYS
async def test_a_value_is_put_to_the_other(pair):
    putter, other = pair
    await introduce(putter, other)
    await putter.put_value(KEY, VALUE)
    record = other.value_store.get(KEY.encode())
    assert record is not None
    assert record.value == VALUE


@WAYS
async def test_a_value_is_got_from_the_other(pair):
    getter, holder = pair
    await holder.put_value(KEY, VALUE)  # while it knows nobody: it is there and nowhere else
    await introduce(getter, holder)
    assert getter.value_store.get(KEY.encode()) is None
    with trio.fail_after(5):
        assert await getter.get_value(KEY) == VALUE
        assert await getter.get_value("/test/question") is None


@WAYS
async def test_a_value_that_is_not_valid_is_not_kept(pair):
    liar, other = pair
    liar.register_validator("test", type("Gullible", (Numbers,), {"validate": lambda *_: None})())
    await introduce(liar, other)
    await liar.put_value(KEY, b"not a number")
    assert other.value_store.get(KEY.encode()) is None


@WAYS
async def test_a_provider_is_told_to_the_other(pair):
    provider, other = pair
    await introduce(provider, other)
    assert await provider.provide(CONTENT)
    key = bytes.fromhex(CONTENT)
    await until(lambda: other.provider_store.get_providers(key))
    (found,) = other.provider_store.get_providers(key)
    assert found.peer_id == provider.host.get_id()
    assert set(found.addrs) == set(provider.host.get_addrs())


@WAYS
async def test_a_provider_is_found_at_the_other(pair):
    finder, provider = pair
    await provider.provide(CONTENT)  # while it knows nobody
    await introduce(finder, provider)
    with trio.fail_after(5):
        found = {info.peer_id: info for info in await finder.find_providers(CONTENT)}
    assert found.keys() == {provider.host.get_id()}
    assert set(found[provider.host.get_id()].addrs) == set(provider.host.get_addrs())


@WAYS
async def test_who_asks_is_in_the_others_routing_table(pair):
    asker, other = pair
    await introduce(asker, other)
    await asker.get_value(KEY)
    assert other.routing_table.peer_in_table(asker.host.get_id())


@pytest.mark.parametrize("kinds", [("node", "stock", "node"), ("stock", "node", "stock")], ids="-".join)
async def test_two_that_never_met_find_each_other_through_a_third(start_node, kinds):
    async with AsyncExitStack() as stack:
        dhts = []
        for kind in kinds:
            host = await stack.enter_async_context(
                open_libp2p_host(await start_node()) if kind == "node" else stock_host()
            )
            dhts.append(await stack.enter_async_context(dht_on(host)))
        asker, between, holder = dhts
        await holder.put_value(KEY, VALUE)  # while it knows nobody
        await introduce(between, holder)
        await introduce(asker, between)
        with trio.fail_after(5):
            assert await asker.get_value(KEY) == VALUE
            found = await asker.find_peer(holder.host.get_id())
        assert found is not None
        assert found.peer_id == holder.host.get_id()
        assert endpoints(holder.host.get_addrs()) <= endpoints(found.addrs)
        assert holder.host.get_id() in asker.host.get_connected_peers()


@pytest.mark.parametrize("mode", DHTMode)
async def test_a_server_on_a_node_says_so_and_a_client_is_not_asked(start_node, stock, mode):
    async with open_libp2p_host(await start_node()) as ours, dht_on(ours, mode), dht_on(stock) as other:
        await stock.connect(info_of(ours))
        await until(lambda: protocols_known(stock, ours.get_id()))
        is_server = mode is DHTMode.SERVER
        assert (PROTOCOL_ID in protocols_known(stock, ours.get_id())) is is_server
        assert await other.routing_table.add_peer(info_of(ours)) is is_server
