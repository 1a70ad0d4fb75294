"""``hypothesis.strategies``, imported when the first strategy is made, so that nothing else needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypothesis import strategies as st
else:

    class _Strategies:
        def __getattr__(self, name: str) -> object:
            try:
                from hypothesis import strategies
            except ImportError as error:
                from hostmesh.errors import UsageError

                raise UsageError(
                    "hostmesh.testing.strategies needs Hypothesis, which is not installed",
                    remedy="install it beside hostmesh: pip install 'hypothesis>=6.150'",
                ) from error
            return getattr(strategies, name)

    st = _Strategies()

__all__ = ["st"]
