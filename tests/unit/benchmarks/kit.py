"""Rows, and a peer that stands in for a stack: its command line, without any transport."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.benchmarks.transport.figures import Row

FAKE_PEER = Path(__file__).with_name("fake_peer.py")


def row(stack: str, work: str = "unary_1", rep: int = 1, value: float | None = 1.0, **changes: object) -> Row:
    """Return a good row, or a failed one where there is no value."""
    values: dict[str, object] = {"unit": "ops/s", "ok": value is not None, "cpu_us_per_op": value}
    if value is None:
        values["error"] = "it broke"
    return Row(stack=stack, work=work, rep=rep, value=value, **(values | changes))  # type: ignore[arg-type]


def fake(*behaviours: str) -> list[str]:
    """Return the command of a fake peer; see ``fake_peer.py`` for the behaviours."""
    return [sys.executable, str(FAKE_PEER), ",".join(behaviours)]
