"""What the programs of these tests start with."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _programs_take_sigint() -> Iterator[None]:
    """Let programs that a test starts take Ctrl-C also where this process ignores it, as a shell's background job does.

    What is ignored stays so in a new program, and Python then installs no handler; what is handled is not.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
