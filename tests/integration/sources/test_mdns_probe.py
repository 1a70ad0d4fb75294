"""The probe of each interface, on this machine's own; a responder beside it answers as a libp2p peer does."""

from __future__ import annotations

import socket

import ifaddr
import trio

from hostmesh.discovery.diagnostics import on_link
from hostmesh.discovery.sources.mdns_probe import GROUP, PORT, probe_links


def test_truth_has_an_interface() -> None:
    assert any(ip.is_IPv4 for adapter in ifaddr.get_adapters() for ip in adapter.ips)


async def test_loopback_hears_itself() -> None:
    (probe,) = await probe_links(["127.0.0.1"])
    assert (probe.address, probe.sent, probe.heard_itself, probe.error) == ("127.0.0.1", True, True, "")
    assert on_link(probe).code == "MDNS_WORKS"


async def test_each_interface_by_itself() -> None:
    expected = {
        ip.ip
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
        if ip.is_IPv4 and ip.ip[:4] != "127."  # type: ignore[index]
    }
    assert {probe.address for probe in await probe_links()} == expected


async def test_an_address_that_is_not_here() -> None:
    assert await probe_links(["192.0.2.250"]) == ()


async def test_another_machine_s_answer_is_counted() -> None:
    """127.0.0.2 stands for another machine: its packets come from another address on the same interface."""
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        await other.bind(("127.0.0.2", 0))
        other.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        answer = b"\0\0\x84\0" + b"\0" * 8 + b"\x04_p2p\x04_udp\x05local\0"
        question = b"\0\0\0\0" + b"\0" * 8
        probes = []

        async def probe() -> None:
            probes.extend(await probe_links(["127.0.0.1"]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(probe)
            await trio.sleep(0.3)
            for packet in (answer, question, answer):
                await other.sendto(packet, (GROUP, PORT))
    assert [(each.packets >= 3, each.responders) for each in probes] == [(True, 1)]
