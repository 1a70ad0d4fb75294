"""What a model does. Discovery, jobs and engines all say it with this one word."""

from __future__ import annotations

from enum import Enum


class ModelKind(Enum):
    """What a model makes of its input."""

    CHAT = "chat"
    EMBEDDING = "embedding"
