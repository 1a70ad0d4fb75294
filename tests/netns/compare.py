"""Prints how simulation and real sockets agree: ``python -m tests.netns.compare [--json]``. Needs root, iproute2."""

from __future__ import annotations

import argparse
import dataclasses
import json

from tests.netns.comparison import Comparison, Plan, compare, quantile
from tests.netns.scenario import ENGINE_S, FIGURES

_PERCENT = (10, 50, 90, 99)


def as_table(comparison: Comparison) -> str:
    """Return the figures in Markdown."""
    real, simulated = comparison.real, comparison.simulated
    rows = [
        "| median of what | real, ms | simulated, ms | simulated / real | round trips, real / simulated | near, ms |"
    ]
    rows += ["|---|--:|--:|--:|--:|--:|"]
    medians = [watch.medians_s() for watch in (real.figures, simulated.figures, real.near)]
    rtt_s = [quantile(each, 0.5) for each in (real.round_trips_s, simulated.round_trips_s)]
    ratios = comparison.ratios()
    for name in FIGURES:
        taken_s = [each[name] for each in medians]
        real_ms, simulated_ms, near_ms = (1000 * each for each in taken_s)
        trips = [(each - ENGINE_S.get(name, 0)) / rtt for each, rtt in zip(taken_s[:2], rtt_s, strict=True)]
        rows.append(
            f"| {name} | {real_ms:.1f} | {simulated_ms:.1f} | {ratios[name]:.3f} | {trips[0]:.1f} / {trips[1]:.1f}"
            f" | {near_ms:.1f} |"
        )
    for percent in _PERCENT:
        real_ms, simulated_ms = (
            1000 * quantile(each, percent / 100) for each in (real.round_trips_s, simulated.round_trips_s)
        )
        near = f"{1000 * real.endpoint_s:.1f}" if percent == 50 else ""
        name = f"round trip of a bare echo, p{percent}"
        rows += [f"| {name} | {real_ms:.1f} | {simulated_ms:.1f} | {simulated_ms / real_ms:.3f} | | {near} |"]
    return "\n".join(rows)


def as_json(comparison: Comparison) -> str:
    """Return everything that was measured."""
    late_s = comparison.real.link_lateness_s
    summary = {f"p{percent}": quantile(late_s, percent / 100) for percent in _PERCENT} | {"max": max(late_s)}
    fields = dataclasses.asdict(comparison)
    fields["real"]["link_lateness_s"] = {"frames": len(late_s), **summary}
    return json.dumps({"ratios": comparison.ratios(), **fields}, indent=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="everything that was measured")
    for field in dataclasses.fields(Plan):
        kind = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    asked = vars(parser.parse_args())
    wants_json = asked.pop("json")
    comparison = compare(Plan(**asked))
    if wants_json:
        print(as_json(comparison))
        return
    late_s = comparison.real.link_lateness_s
    profile = comparison.profile
    print(as_table(comparison))
    print(
        f"\nsimulated link: latency {1000 * profile.latency_s:.2f} ms, jitter {1000 * profile.jitter_s:.2f} ms; the"
        f" real one passed {len(late_s)} frames on, p50 {1e6 * quantile(late_s, 0.5):.0f} us late,"
        f" p99 {1e6 * quantile(late_s, 0.99):.0f} us, at most {1e6 * max(late_s):.0f} us"
    )


if __name__ == "__main__":
    main()
