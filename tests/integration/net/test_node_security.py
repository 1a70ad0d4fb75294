"""Who may not connect: peers without Noise, and peers that claim another's id. The hostile side is stock libp2p."""

from __future__ import annotations

import gc
import warnings
from contextlib import asynccontextmanager

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.rsa import create_new_key_pair as create_rsa_key_pair
from libp2p.crypto.secp256k1 import create_new_key_pair as create_secp256k1_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.io.exceptions import IncompleteReadError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.exceptions import SwarmException
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.security.secio import transport as secio
from libp2p.security.tls.transport import PROTOCOL_ID as TLS_ID
from libp2p.security.tls.transport import TLSTransport
from multiaddr import Multiaddr
from tests.support.wire_peer import line, proposal

from hostmesh.errors import DialError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId
from hostmesh.net.peer_key import PeerKey
from hostmesh.wire.noise import NoiseHandshake, NoiseIdentity

ECHO = "/test/echo/1"
CONFIGURED = AddressOrigin.CONFIGURED


def _noise(pair: KeyPair):
    return {NOISE_ID: NoiseTransport(pair, noise_privkey=create_noise_key_pair().private_key)}


UNWANTED = {
    "plaintext": lambda pair: {PLAINTEXT_PROTOCOL_ID: InsecureTransport(pair)},
    "secio": lambda pair: {secio.ID: secio.Transport(pair)},
    "tls": lambda pair: {TLS_ID: TLSTransport(pair)},
}


@asynccontextmanager
async def _stock_host(security, pair: KeyPair | None = None):
    pair = pair or create_new_key_pair()
    host = new_host(
        key_pair=pair,
        sec_opt=security(pair),
        connection_config=ConnectionConfig(min_connections=0, low_watermark=0, max_connections_per_peer=1),
    )
    host.get_network().retry_config = RetryConfig(max_retries=0)
    async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        yield host
    # A stock dialer drops its socket when a handshake fails; that is its leak and not ours.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del host
        gc.collect()


def _address(host) -> tuple[PeerId, str]:
    address, _, peer_id = str(host.get_addrs()[0]).partition("/p2p/")
    return PeerId(peer_id), address


async def _stock_echo(stream) -> None:
    await stream.write(await stream.read(1024))
    await stream.close()


async def test_stock_peer_with_noise_is_welcome_both_ways(start_node):
    """The positive control of the refusals below."""
    node = await start_node()
    async with _stock_host(_noise) as host:
        host.set_stream_handler(ECHO, _stock_echo)
        peer_id, address = _address(host)
        await node.connect(peer_id, [address], origin=CONFIGURED)
        stream = await node.open_stream(peer_id, ECHO)
        await stream.send(b"to stock")
        assert await stream.receive() == b"to stock"
    async with _stock_host(_noise) as host:
        await host.connect(info_from_p2p_addr(Multiaddr(node.peer_addresses()[0])))
        stream = await host.new_stream(host.get_connected_peers()[0], [ECHO])
        await stream.write(b"from stock")
        assert await stream.read(1024) == b"from stock"
        await stream.close()


@pytest.mark.parametrize("name", UNWANTED)
async def test_listener_without_noise_is_refused(start_node, name):
    node = await start_node()
    async with _stock_host(UNWANTED[name]) as host:
        peer_id, address = _address(host)
        with pytest.raises(DialError) as caught:
            await node.connect(peer_id, [address], origin=CONFIGURED)
        assert caught.value.stage == "handshake"
        assert node.connected_peers() == ()
        assert host.get_connected_peers() == []


@pytest.mark.parametrize("name", UNWANTED)
async def test_dialer_without_noise_is_refused(start_node, name):
    node = await start_node()
    async with _stock_host(UNWANTED[name]) as host:
        with pytest.raises(SwarmException):
            await host.connect(info_from_p2p_addr(Multiaddr(node.peer_addresses()[0])))
        assert node.connected_peers() == ()


async def _dial(node: Node) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", int(node.listen_addresses()[0].split("/")[4]))


async def test_only_noise_is_on_offer(start_node):
    node = await start_node()
    stream = await _dial(node)
    unwanted = [PLAINTEXT_PROTOCOL_ID, "/plaintext/1.0.0", secio.ID, TLS_ID, "/quic-v1", "ls"]
    await stream.send_all(b"".join(map(line, ["/multistream/1.0.0", *unwanted, "/noise"])))
    expected = b"".join(map(line, ["/multistream/1.0.0", *["na"] * len(unwanted), "/noise"]))
    received = b""
    with trio.fail_after(2):
        while len(received) < len(expected):
            received += await stream.receive_some()
    assert received == expected
    await stream.aclose()


async def test_only_yamux_is_on_offer(start_node):
    """To a peer that does not name its multiplexers in the handshake."""
    node = await start_node()
    stream, key, static = await _dial(node), PeerKey.generate(), bytes(range(32))
    public = X25519PrivateKey.from_private_bytes(static).public_key().public_bytes_raw()
    identity = NoiseIdentity(static, key.public_bytes, key.sign(b"noise-libp2p-static-key:" + public))
    handshake = NoiseHandshake(is_initiator=True, identity=identity, ephemeral_private=bytes(range(1, 33)))
    await stream.send_all(proposal("/noise") + handshake.data_to_send())
    received, result = b"", None
    with trio.fail_after(2):
        while len(received) < len(proposal("/noise")):
            received += await stream.receive_some()
        assert received.startswith(proposal("/noise"))
        result = handshake.receive(received[len(proposal("/noise")) :])
        while result is None:
            result = handshake.receive(await stream.receive_some())
        channel = result[0].channel
        unwanted = ["/mplex/6.7.0", "/yamux/2.0.0", "ls"]
        wanted = b"".join(map(line, ["/multistream/1.0.0", *unwanted, "/yamux/1.0.0"]))
        await stream.send_all(handshake.data_to_send() + channel.seal(wanted))
        expected = b"".join(map(line, ["/multistream/1.0.0", *["na"] * len(unwanted), "/yamux/1.0.0"]))
        received = b""
        while len(received) < len(expected):
            received += b"".join(channel.open(await stream.receive_some()))
    assert received.startswith(expected), "what comes after it are frames"
    await stream.aclose()


class _StolenIdentity:
    """A private key that claims another's public key."""

    def __init__(self, own, claimed) -> None:
        self._own = own
        self._claimed = claimed

    def get_public_key(self):
        return self._claimed

    def __getattr__(self, name: str):
        return getattr(self._own, name)


async def test_dialer_cannot_claim_a_peer_id_without_its_key(start_node):
    node = await start_node()
    victim, thief = create_new_key_pair(), create_new_key_pair()
    claimed = KeyPair(_StolenIdentity(thief.private_key, victim.public_key), victim.public_key)
    raw = RawConnection(TrioTCPStream(await _dial(node)), True)
    await MultiselectClient().select_one_of([NOISE_ID], MultiselectCommunicator(raw))
    transport = NoiseTransport(claimed, noise_privkey=create_noise_key_pair().private_key)
    secured = await transport.secure_outbound(raw, info_from_p2p_addr(Multiaddr(node.peer_addresses()[0])).peer_id)
    with trio.fail_after(2), pytest.raises(IncompleteReadError):
        await secured.read(1)
    assert node.connected_peers() == ()
    await raw.close()


async def test_listener_cannot_claim_a_peer_id_without_its_key(start_node, nursery):
    node = await start_node()
    victim, thief = create_new_key_pair(), create_new_key_pair()
    claimed = KeyPair(_StolenIdentity(thief.private_key, victim.public_key), victim.public_key)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    refused = trio.Event()

    async def impersonate(stream: trio.SocketStream) -> None:
        from libp2p.protocol_muxer.multiselect import Multiselect

        raw = RawConnection(TrioTCPStream(stream), False)
        await Multiselect({NOISE_ID: None}).negotiate(MultiselectCommunicator(raw))
        transport = NoiseTransport(claimed, noise_privkey=create_noise_key_pair().private_key)
        with pytest.raises(IncompleteReadError):
            await transport.secure_inbound(raw)
        refused.set()

    nursery.start_soon(trio.serve_listeners, impersonate, listeners)
    port = listeners[0].socket.getsockname()[1]
    victim_id = PeerKey(victim.private_key.to_bytes()).peer_id
    with pytest.raises(DialError) as caught:
        await node.connect(victim_id, [f"/ip4/127.0.0.1/tcp/{port}"], origin=CONFIGURED)
    assert caught.value.stage == "handshake"
    assert "does not vouch" in caught.value.message
    with trio.fail_after(2):
        await refused.wait()
    assert node.connected_peers() == ()


async def test_another_peer_at_the_address_is_refused(start_node):
    node, other = await start_node(), await start_node()
    wanted = PeerKey.generate().peer_id
    with pytest.raises(DialError) as caught:
        await node.connect(wanted, other.listen_addresses(), origin=CONFIGURED)
    assert caught.value.stage == "handshake"
    assert "another one" in caught.value.message
    assert node.connected_peers() == ()


@pytest.mark.parametrize("create", [create_secp256k1_key_pair, lambda: create_rsa_key_pair(2048)])
async def test_peers_with_other_keys_are_refused(start_node, create):
    node = await start_node()
    async with _stock_host(_noise, create()) as host:
        with pytest.raises(SwarmException):
            await host.connect(info_from_p2p_addr(Multiaddr(node.peer_addresses()[0])))
        assert node.connected_peers() == ()


async def test_a_node_does_not_connect_to_itself(start_node):
    key = PeerKey.generate()
    node = await start_node(key=key)
    with pytest.raises(DialError) as caught:
        await node.connect(node.peer_id, node.listen_addresses(), origin=CONFIGURED)
    assert caught.value.stage == "address"
    twin = await start_node(key=key)
    with pytest.raises(DialError):
        await twin.connect(PeerKey.generate().peer_id, node.listen_addresses(), origin=CONFIGURED)
    assert node.connected_peers() == twin.connected_peers() == ()
