"""The benchmark of finding, small: what hosts are asked for a warm find. How long it takes is no matter of a test."""

from __future__ import annotations

import pytest
from tests.benchmarks.find import figures_of, measure


@pytest.mark.timeout(120)
async def test_a_warm_find_asks_each_host_five_times_and_nobody_else() -> None:
    """The hosts counted: three pings, a snapshot and a quote; no record is fetched again, and no source asked."""
    hosts, finds = 2, 3
    (measured,) = await measure(hosts=hosts, rounds=1, finds=finds)
    assert len(measured.took_ms) == finds
    assert measured.not_warm == 0
    # Introductions among the nodes go on meanwhile, at their own pace.
    calls = {name: count for name, count in measured.calls.items() if name != "Announce"}
    assert calls == {"Ping": 3 * hosts, "GetSnapshot": hosts, "Quote": hosts}
    assert all(value > 0 for figure in figures_of([measured]).values() for value in figure.values())
