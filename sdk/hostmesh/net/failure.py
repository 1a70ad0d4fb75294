"""A failure that several tasks are told of."""

from __future__ import annotations

from typing import TypeVar

from hostmesh.errors import HostmeshError

ErrorT = TypeVar("ErrorT", bound=HostmeshError)


def same_failure(error: ErrorT) -> ErrorT:
    """Return the same failure as a new exception: one belongs to one task, and keeps the frames it went through."""
    again = type(error).__new__(type(error), *error.args)
    again.__dict__.update(error.__dict__)
    return again
