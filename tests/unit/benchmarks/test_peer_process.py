"""A peer's process: answers in time, or an error that says what happened."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.benchmarks.transport.process import PeerError, open_peer
from tests.unit.benchmarks.kit import fake

PATIENCE_S = 20.0


async def test_a_question_is_answered(tmp_path: Path) -> None:
    async with open_peer("peer", [*fake(), "bench-server"], tmp_path) as peer:
        assert (await peer.read(within_s=PATIENCE_S))["address"] == "nowhere"
        assert (await peer.ask({"cmd": "usage"}, within_s=PATIENCE_S))["rss_kib"] == 1007


async def test_an_error_that_the_peer_answers_leaves_it_usable(tmp_path: Path) -> None:
    async with open_peer("peer", [*fake("refuse=bulk"), "bench-client", "nowhere"], tmp_path) as peer:
        with pytest.raises(PeerError, match="peer: too much"):
            await peer.ask({"cmd": "run", "work": "bulk", "frames": 1}, within_s=PATIENCE_S)
        assert peer.is_usable
        await peer.ask({"cmd": "warmup"}, within_s=PATIENCE_S)


async def test_a_late_answer_is_an_error(tmp_path: Path) -> None:
    async with open_peer("peer", [*fake("mute"), "bench-server"], tmp_path) as peer:
        with pytest.raises(PeerError, match=r"peer is late: no answer within 0\.05 s"):
            await peer.read(within_s=0.05)
        assert not peer.is_usable


async def test_a_peer_that_ends_tells_its_last_words(tmp_path: Path) -> None:
    async with open_peer("peer", [*fake("die"), "bench-server"], tmp_path) as peer:
        with pytest.raises(PeerError, match="peer ended; it wrote: no such luck"):
            await peer.read(within_s=PATIENCE_S)
        assert not peer.is_usable


async def test_what_is_no_json_is_an_error(tmp_path: Path) -> None:
    async with open_peer("peer", [*fake("garbage"), "bench-server"], tmp_path) as peer:
        with pytest.raises(PeerError, match="no JSON object: b'listening'"):
            await peer.read(within_s=PATIENCE_S)


async def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="peer does not start"):
        async with open_peer("peer", [str(tmp_path / "missing")], tmp_path):
            pytest.fail("it started")
