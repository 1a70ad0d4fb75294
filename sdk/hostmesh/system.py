"""What hostmesh takes from the machine besides the network: the clocks and random bytes.

They are arguments of :func:`hostmesh.open_sdk`, so that a simulation can replace them without patching. Pure modules
never see a :class:`System`; they take ``now`` and random bytes as arguments.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Clocks and randomness of one node."""

    unix_s: Callable[[], float] = time.time
    """Wall clock, seconds since 1970 UTC; may step."""
    monotonic_s: Callable[[], float] = time.monotonic
    """Seconds since any fixed moment; never goes back."""
    random_bytes: Callable[[int], bytes] = os.urandom
    """n unpredictable bytes."""
