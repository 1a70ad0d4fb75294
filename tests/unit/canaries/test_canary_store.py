"""What canaries know after a restart."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostmesh.canaries import canary_store
from hostmesh.canaries.canary_store import CanaryStore
from hostmesh.canaries.comparison import Agreement
from hostmesh.canaries.draws import Draws
from hostmesh.canaries.evidence import WINDOW, Observation, Warmth
from hostmesh.canaries.rhythm import MAX_JOBS
from hostmesh.canaries.traffic import JobShape, PastJob, Traffic

shapes = st.builds(
    JobShape,
    length_bytes=st.integers(0, 10**6),
    max_output_tokens=st.none() | st.integers(1, 4096),
    parameters=st.dictionaries(
        st.sampled_from(["temperature", "top_p", "stop", "seed"]),
        st.floats(0, 2) | st.integers(0, 2**31 - 1) | st.lists(st.text(), max_size=3).map(tuple),
        max_size=4,
    ).map(lambda given: tuple(given.items())),
    model_id=st.text(max_size=20),
    timeout_s=st.none() | st.floats(0.1, 1000),
)
SHAPE = JobShape(length_bytes=40, max_output_tokens=64)
SEEN = Observation(warmth=Warmth.WARM, agreements={"reference": Agreement(characters=1, parted=True)})


@settings(max_examples=50, deadline=None)
@given(kept=st.lists(shapes, max_size=5))
def test_shapes_come_back_as_they_were(kept: list[JobShape]) -> None:
    store = CanaryStore()
    for place, shape in enumerate(kept):
        store.job_started("host", b"c%d" % place, shape, None, unix_s=float(place))
    assert [job.shape for job in store.jobs("host", unix_s=0.0, now_s=0.0)] == kept
    store.close()


def test_a_file_that_is_opened_again_holds_all(tmp_path: Path) -> None:
    path = tmp_path / "data" / "canaries.sqlite3"
    seen = Observation(warmth=Warmth.MILD, agreements={"reference": Agreement(characters=12, parted=True)})
    store = CanaryStore(path)
    store.job_started("host", b"one", SHAPE, b"digest", unix_s=1000.0)
    store.job_ended("host", b"one", unix_s=1003.0)
    store.job_started("host", b"two", SHAPE, None, unix_s=1010.0)
    assert store.add_sent(b"1" * 16)
    assert store.add_observation("host", "m", seen, operator="0xa") == []
    store.close()
    assert path.stat().st_mode & 0o777 == 0o600
    again = CanaryStore(path)
    assert again.jobs("host", unix_s=1100.0, now_s=50.0) == [
        PastJob(conversation=b"one", shape=SHAPE, system_prompt=b"digest", started_s=-50.0, ended_s=-47.0),
        PastJob(conversation=b"two", shape=SHAPE, system_prompt=None, started_s=-40.0, ended_s=None),
    ]
    assert again.sent() == [b"1" * 16]
    assert not again.add_sent(b"1" * 16), "none is sent twice, by whichever program"
    assert again.window("host", "m", operator="0xa") == [seen]
    assert again.window("host", "other", operator="0xa") == again.window("host", "m", operator="0xb") == []
    again.close()


def test_every_table_has_a_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary_store, "MAX_HOSTS", 3)
    monkeypatch.setattr(canary_store, "MAX_SENT", 2)
    store = CanaryStore()
    for host in range(5):
        for place in range(MAX_JOBS + 3):
            store.job_started(f"host {host}", b"%d" % place, SHAPE, None, unix_s=float(place))
        store.add_observation(f"host {host}", "m", SEEN, operator="0xa")
    known = [store.jobs(f"host {host}", unix_s=0.0, now_s=0.0) for host in range(5)]
    assert [len(jobs) for jobs in known] == [0, 0, MAX_JOBS, MAX_JOBS, MAX_JOBS]
    assert known[4][0].conversation == b"3", "the oldest go"
    assert [len(store.window(f"host {host}", "m", operator="0xa")) for host in range(5)] == [0, 0, 1, 1, 1]
    assert [store.add_sent(digest) for digest in (b"a", b"b", b"c")] == [True, True, False]
    for wallet in range(5):
        store.add_observation("host 4", "m", SEEN, operator=f"wallet {wallet}")
    assert [len(store.window(f"host {host}", "m", operator="0xa")) for host in range(5)] == [0] * 5, "wallets count"
    assert [len(store.window("host 4", "m", operator=f"wallet {wallet}")) for wallet in range(5)] == [0, 0, 1, 1, 1]
    store.close()


@settings(max_examples=20, deadline=None)
@given(
    written=st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from(["0xa", "0xb"])), min_size=WINDOW, max_size=4 * WINDOW
    ),
)
def test_each_observation_is_in_one_window_of_one_wallet_whoever_writes_it(
    written: list[tuple[int, str]],
) -> None:
    """Two programs of one data directory write in any order; each observation is told from all others."""
    with tempfile.TemporaryDirectory() as folder:
        programs = [CanaryStore(Path(folder) / "canaries.sqlite3") for _ in range(2)]
        taken: dict[str, list[int]] = {"0xa": [], "0xb": []}
        for number, (program, operator) in enumerate(written):
            seen = Observation(warmth=Warmth.MILD, agreements={"reference": Agreement(characters=number, parted=True)})
            window = programs[program].add_observation("host", "m", seen, operator=operator)
            assert len(window) in (0, WINDOW)
            taken[operator] += [one.agreements["reference"].characters for one in window]
        for operator, numbers in taken.items():
            own = [number for number, (_, whose) in enumerate(written) if whose == operator]
            assert numbers == own[: len(own) // WINDOW * WINDOW], "each once, in order, as soon as a window is full"
            left = [
                one.agreements["reference"].characters for one in programs[0].window("host", "m", operator=operator)
            ]
            assert numbers + left == own
        for store in programs:
            store.close()


def begin(traffic: Traffic, conversation: bytes, now_s: float, entropy: bytes) -> None:
    asked = traffic.job_asked(conversation, now_s=now_s, draws=Draws(entropy))
    traffic.job_started(conversation, SHAPE, asked=asked, now_s=now_s, draws=Draws(entropy))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), is_overlapping=st.booleans())
def test_restored_traffic_is_what_it_was(seed: int, is_overlapping: bool) -> None:
    """What a plan draws from it, that is: the same draws choose the same conversation, pause and time."""
    source = random.Random(seed)
    longest_s = 1.0 if is_overlapping else 20.0  # what is to be waited for has to be over soon
    lived, past, now_s, running = Traffic(rate=0.5), [], 0.0, []
    for place in range(60):
        key = b"%d" % (place // 3)
        begin(lived, key, now_s, bytes([33]) * 32)
        assert lived.rhythm.due_s is None or lived.rhythm.due_s > now_s, "the draws let no canary go before it"
        running.append((key, now_s))
        now_s += source.uniform(0.1, longest_s)
        while running and not (is_overlapping and len(running) < 3):
            key, started_s = running.pop(0)
            lived.job_ended(key, now_s=now_s, draws=Draws(bytes(32)))
            past.append(PastJob(conversation=key, shape=SHAPE, system_prompt=None, started_s=started_s, ended_s=now_s))
            now_s += source.uniform(0.1, longest_s) + (0.0 if is_overlapping or place % 3 < 2 else 1000.0)
    for key, started_s in running:
        lived.job_ended(key, now_s=now_s, draws=Draws(bytes(32)))
        past.append(PastJob(conversation=key, shape=SHAPE, system_prompt=None, started_s=started_s, ended_s=now_s))
    restored = Traffic(rate=0.5)
    restored.restore(sorted(past, key=lambda job: job.started_s))
    assert restored.rhythm.due_s is None, "nothing before the first job of this run"
    for traffic in (lived, restored):
        begin(traffic, b"next", now_s + 5.0, bytes(31) + b"x")
        traffic.job_ended(b"next", now_s=now_s + 6.0, draws=Draws(bytes(31) + b"y"))
    assert restored.rhythm.due_s == lived.rhythm.due_s is not None
    assert restored.rhythm.stay == lived.rhythm.stay
    copies = [traffic.conversation(Draws(b"z" * 32), now_s=now_s + 7.0) for traffic in (lived, restored)]
    assert copies[0] == copies[1] is not None
