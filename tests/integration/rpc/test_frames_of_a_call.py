"""A call through generated code sends what a framed echo on the same node sends, frame for frame."""

from __future__ import annotations

from collections import defaultdict

import pytest
from tests.benchmarks.call_overhead import (
    CONCURRENCY,
    ECHO_ID,
    PREFIX,
    Round,
    exchange,
    figures_of,
    running_client,
    running_server,
)

from hostmesh.wire.yamux import DATA, HEADER_BYTES, WINDOW_UPDATE, Yamux

EXCHANGES = 64


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[tuple[int, bytes]]]:
    """The frames that either side of the one connection sends from now on, by stream: kind and payload."""
    frames: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
    data_to_send = Yamux.data_to_send

    def recorded(yamux: Yamux) -> bytes:
        data = data_to_send(yamux)
        at = 0
        while at < len(data):
            kind, stream_id = data[at + 1], int.from_bytes(data[at + 4 : at + 8], "big")
            size = int.from_bytes(data[at + 8 : at + 12], "big") if kind == DATA else 0
            at += HEADER_BYTES + size
            frames[stream_id].append((kind, data[at - size : at]))
        return data

    monkeypatch.setattr(Yamux, "data_to_send", recorded)
    return frames


@pytest.mark.parametrize("concurrency", [1, CONCURRENCY])
async def test_a_call_is_a_data_frame_and_an_end_each_way_as_an_echo_is(
    sent: dict[int, list[tuple[int, bytes]]], concurrency: int
) -> None:
    async with running_server() as server, running_client(server.peer_addresses()[0]) as ways:
        for once in ways.values():
            await exchange(once, 1)  # until then what the peer speaks may be unknown
        sent.clear()
        for once in ways.values():
            await exchange(once, EXCHANGES, concurrency)
    for protocol_id in (ECHO_ID, f"{PREFIX}/bench/1.0.0"):
        streams = [frames for frames in sent.values() if protocol_id.encode() in frames[0][1]]
        assert len(streams) == EXCHANGES
        for frames in streams:
            assert sorted(kind for kind, _ in frames) == [DATA, DATA, WINDOW_UPDATE, WINDOW_UPDATE]


def test_the_overhead_is_of_each_round_and_its_median_of_all() -> None:
    figures = figures_of([Round(50.0, 60.0), Round(100.0, 140.0), Round(40.0, 44.0)])
    assert figures["overhead"] == pytest.approx({"median": 0.2, "least": 0.1, "greatest": 0.4})
    assert figures["call, us"] == {"median": 60.0, "least": 44.0, "greatest": 140.0}
