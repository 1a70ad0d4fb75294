"""Starting, stopping, and what is left."""

from __future__ import annotations

import gc
import socket
import threading
from pathlib import Path

import pytest
import trio

from hostmesh.errors import AlreadyRunningError, InvalidAddressError, KeyInUseError, StartFailedError, UsageError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.network import SocketNetwork
from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.peer_key import PeerKey, open_peer_key

ECHO = "/test/echo/1"
CONFIGURED = AddressOrigin.CONFIGURED
EVERYWHERE = ("/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws")


def _open_files() -> list[str]:
    gc.collect()
    # The listing's own descriptor is gone by the time that its link is read.
    return sorted(str(entry.readlink()) for entry in list(Path("/proc/self/fd").iterdir()) if entry.is_symlink())


def _tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def _use(server: Node, client: Node) -> None:
    await client.connect(server.peer_id, server.listen_addresses(), origin=CONFIGURED)
    stream = await client.open_stream(server.peer_id, ECHO)
    await stream.send(b"x")
    assert await stream.receive() == b"x"


async def test_twenty_starts_and_stops_leave_nothing(tmp_path):
    async def echo(stream) -> None:
        while data := await stream.receive():
            await stream.send(data)

    async def once(dht: bool) -> None:
        with open_peer_key(tmp_path / "keys" / "peer.key") as key:
            server = Node(NodeConfig(listen_addresses=EVERYWHERE, enable_dht=dht, dht_server=True), key)
            client = Node(NodeConfig(enable_dht=dht), PeerKey.generate())
            server.set_stream_handler(ECHO, echo)
            async with trio.open_nursery() as nursery:
                await nursery.start(server.run)
                await nursery.start(client.run)
                await _use(server, client)
                await server.stop()
                await client.stop()
                await client.stop()

    await once(dht=False)
    files, threads, tasks = _open_files(), threading.active_count(), _tasks()
    for index in range(20):
        await once(dht=bool(index % 2))
    assert [each for each in _open_files() if each not in files] == []
    assert len(_open_files()) == len(files)
    assert threading.active_count() == threads
    assert _tasks() == tasks
    with open_peer_key(tmp_path / "keys" / "peer.key"):
        pass


async def test_cancellation_is_a_stop_too(start_node):
    server = await start_node()
    client = Node(NodeConfig(listen_addresses=EVERYWHERE, enable_dht=False), PeerKey.generate())
    tasks = _tasks()
    files = len(_open_files())
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        await _use(server, client)
        nursery.cancel_scope.cancel()
    assert not client.is_running
    await client.stop()
    with trio.fail_after(1):
        await server.wait_disconnected(client.peer_id)
        while _tasks() > tasks:
            await trio.lowlevel.checkpoint()
    assert len(_open_files()) == files


async def test_peers_are_told_of_the_end_at_once(start_node):
    server, client = await start_node(), await start_node()
    await _use(server, client)
    with trio.fail_after(0.5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.wait_disconnected, server.peer_id)
            await server.stop()


async def test_stopping_does_not_wait_for_a_peer_that_does_not_read(start_node, nursery):
    server, client = await start_node(), await start_node()
    stuck = trio.Event()

    async def flood(stream) -> None:
        stuck.set()
        await stream.send(bytes(10_000_000))

    server.set_stream_handler("/test/flood/1", flood)
    await client.connect(server.peer_id, server.listen_addresses(), origin=CONFIGURED)
    await client.open_stream(server.peer_id, "/test/flood/1")
    await stuck.wait()
    with trio.fail_after(2):
        await server.stop()


async def test_stop_before_and_after(start_node):
    node = Node(NodeConfig(enable_dht=False), PeerKey.generate())
    await node.stop()
    running = await start_node()
    assert running.is_running
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(running.stop)
    assert not running.is_running
    await running.stop()
    with pytest.raises(AlreadyRunningError):
        await running.run()


async def test_running_twice_is_refused(start_node):
    node = await start_node()
    with pytest.raises(AlreadyRunningError):
        await node.run()
    assert node.is_running


async def test_port_in_use_is_named_and_nothing_stays_open(start_node):
    first = await start_node()
    taken = first.listen_addresses()[0]
    files = len(_open_files())
    node = Node(NodeConfig(listen_addresses=("/ip4/127.0.0.1/tcp/0", taken), enable_dht=False), PeerKey.generate())
    with pytest.raises(StartFailedError) as caught:
        await node.run()
    assert taken in caught.value.message
    assert "port" in caught.value.remedy
    assert len(_open_files()) == files
    await node.stop()
    other = Node(NodeConfig(listen_addresses=(taken,), enable_dht=False), PeerKey.generate())
    async with trio.open_nursery() as nursery:
        with pytest.raises(StartFailedError):
            await nursery.start(other.run)


async def test_address_of_another_machine_is_refused():
    node = Node(NodeConfig(listen_addresses=("/ip4/192.0.2.1/tcp/0",), enable_dht=False), PeerKey.generate())
    with pytest.raises(StartFailedError) as caught:
        await node.run()
    assert "0.0.0.0" in caught.value.remedy


@pytest.mark.parametrize(
    "settings",
    [
        {"listen_addresses": ("127.0.0.1:4001",)},
        {"listen_addresses": ("/ip4/127.0.0.1/udp/4001/quic-v1",)},
        {"announce_addresses": ("/ip4/0.0.0.0/tcp/4001",)},
        {"announce_addresses": ("/ip6/::/tcp/4001",)},
        {"announce_addresses": ("nonsense",)},
        {"bootstrap_addresses": ("/ip4/192.0.2.1/tcp/4001",)},
        {"bootstrap_addresses": ("/ip4/192.0.2.1/tcp/4001/p2p/nobody",)},
    ],
)
def test_bad_addresses_are_refused_before_the_start(settings):
    with pytest.raises(InvalidAddressError) as caught:
        NodeConfig(**settings)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("settings", [{"max_connections": 0}, {"connection_timeout_s": 0}])
def test_bad_numbers_are_refused(settings):
    with pytest.raises(UsageError):
        NodeConfig(**settings)


async def test_a_name_cannot_be_listened_on():
    node = Node(NodeConfig(listen_addresses=("/dns4/localhost/tcp/0",), enable_dht=False), PeerKey.generate())
    with pytest.raises(InvalidAddressError):
        await node.run()


class _Interfaces(SocketNetwork):
    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    def interface_addresses(self) -> tuple[str, ...]:
        return self._addresses


@pytest.mark.parametrize(
    ("interfaces", "listen", "told"),
    [
        (("127.0.0.1", "192.168.1.2", "203.0.113.9"), ("/ip4/0.0.0.0/tcp/0",), ["192.168.1.2", "203.0.113.9"]),
        (("127.0.0.1", "10.0.0.2", "9.9.9.9"), ("/ip4/0.0.0.0/tcp/0",), ["9.9.9.9", "10.0.0.2"]),
        (("127.0.0.1",), ("/ip4/0.0.0.0/tcp/0",), ["127.0.0.1"]),
        (("127.0.0.1", "169.254.3.4"), ("/ip4/0.0.0.0/tcp/0",), ["127.0.0.1"]),
        (("::1", "fe80::1", "fd00::2", "2606:4700::1"), ("/ip6/::/tcp/0",), ["2606:4700::1", "fd00::2"]),
        (("127.0.0.1", "10.0.0.2", "::1"), ("/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0/ws"), ["10.0.0.2"]),
        (("127.0.0.1", "10.0.0.2"), ("/ip4/127.0.0.1/tcp/0",), ["127.0.0.1"]),
    ],
)
async def test_unspecified_addresses_are_never_told(nursery, interfaces, listen, told):
    config = NodeConfig(listen_addresses=listen, enable_dht=False)
    node = Node(config, PeerKey.generate(), network=_Interfaces(*interfaces))
    await nursery.start(node.run)
    announced = node.announced_addresses()
    assert [address.split("/")[2] for address in announced] == told
    assert not any(part in ("0.0.0.0", "::", "0") for address in announced for part in address.split("/"))
    assert node.peer_addresses() == tuple(f"{address}/p2p/{node.peer_id}" for address in announced)


async def test_identify_does_not_tell_unspecified_addresses_either(start_node):
    server = await start_node(listen_addresses=("/ip4/0.0.0.0/tcp/0",))
    client = await start_node()
    port = server.listen_addresses()[0].split("/")[4]
    await client.connect(server.peer_id, [f"/ip4/127.0.0.1/tcp/{port}"], origin=CONFIGURED)
    with trio.fail_after(2):
        while not client.protocols_of(server.peer_id):
            await trio.lowlevel.checkpoint()
    assert not any("0.0.0.0" in address for address in client.addresses_of(server.peer_id))


async def test_announced_addresses_replace_the_found_ones(start_node):
    node = await start_node(announce_addresses=("/dns4/host.example/tcp/443/ws", "/ip4/9.9.9.9/tcp/4001"))
    assert node.announced_addresses() == ("/dns4/host.example/tcp/443/ws", "/ip4/9.9.9.9/tcp/4001")


async def test_all_interfaces_can_be_listened_on_in_both_versions_with_one_port(start_node):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    node = await start_node(listen_addresses=(f"/ip4/0.0.0.0/tcp/{port}", f"/ip6/::/tcp/{port}"))
    client = await start_node()
    await client.connect(node.peer_id, [f"/ip6/::1/tcp/{port}"], origin=CONFIGURED)


async def test_key_of_a_running_node_is_refused(tmp_path):
    path = tmp_path / "keys" / "peer.key"
    with open_peer_key(path) as key:
        node = Node(NodeConfig(enable_dht=False), key)
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            with pytest.raises(KeyInUseError), open_peer_key(path):
                pass
            await node.stop()
