"""Test what you build on hostmesh: a simulated network, and fakes that behave like the real things.

Every name is imported when it is first used. Nothing of hostmesh imports this package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostmesh.testing.engine import FakeEngine, chat_model, embedding_model
    from hostmesh.testing.engine_account import EngineCounts, EngineJob, JobEnding
    from hostmesh.testing.engine_faults import (
        DiesAfter,
        EndsAfter,
        EngineFault,
        FailsAfter,
        FailsToLoad,
        HangsAfter,
        LiesAboutUsage,
        Says,
    )
    from hostmesh.testing.wallets import PublicKeyWallet, make_peer_key, make_wallet

__all__ = [
    "DiesAfter",
    "EndsAfter",
    "EngineCounts",
    "EngineFault",
    "EngineJob",
    "FailsAfter",
    "FailsToLoad",
    "FakeEngine",
    "HangsAfter",
    "JobEnding",
    "LiesAboutUsage",
    "PublicKeyWallet",
    "Says",
    "chat_model",
    "embedding_model",
    "make_peer_key",
    "make_wallet",
]

_HOMES = {
    "FakeEngine": "hostmesh.testing.engine",
    "chat_model": "hostmesh.testing.engine",
    "embedding_model": "hostmesh.testing.engine",
    "EngineCounts": "hostmesh.testing.engine_account",
    "EngineJob": "hostmesh.testing.engine_account",
    "JobEnding": "hostmesh.testing.engine_account",
    "DiesAfter": "hostmesh.testing.engine_faults",
    "EndsAfter": "hostmesh.testing.engine_faults",
    "EngineFault": "hostmesh.testing.engine_faults",
    "FailsAfter": "hostmesh.testing.engine_faults",
    "FailsToLoad": "hostmesh.testing.engine_faults",
    "HangsAfter": "hostmesh.testing.engine_faults",
    "LiesAboutUsage": "hostmesh.testing.engine_faults",
    "Says": "hostmesh.testing.engine_faults",
    "PublicKeyWallet": "hostmesh.testing.wallets",
    "make_peer_key": "hostmesh.testing.wallets",
    "make_wallet": "hostmesh.testing.wallets",
}
"""Where each public name is defined."""


def __getattr__(name: str) -> object:
    """Import a public name from its home, once."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'hostmesh.testing' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
