"""What a plan of canaries knows of one host. Pure."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from hostmesh.canaries.canary import Turn
from hostmesh.canaries.traffic import JobShape, Traffic


@dataclass(slots=True)
class BegunConversation:
    """A canary conversation that is to go on."""

    shapes: list[JobShape]
    """Of the turns to come."""
    pauses_s: list[float]
    """Before each of them, but the first."""
    turns: Sequence[Turn]
    canary_id: int = 0
    """Of the turn that was made last."""
    due_s: float = math.inf
    """Infinity = its answer is awaited."""
    keeps_place: bool = True
    """It goes on so soon that a job that finds no place waits for it."""


@dataclass(slots=True)
class HostPlan:
    """The host's traffic, and its canaries under way."""

    traffic: Traffic
    system_prompts: OrderedDict[bytes, str] = field(default_factory=OrderedDict)
    """By digest."""
    parts: set[str] = field(default_factory=set)
    """Lines and passages that it has had."""
    begun: dict[int, BegunConversation] = field(default_factory=dict)
    """By the canary that was made last."""
    running: dict[int, bool] = field(default_factory=dict)
    """Canaries that were made and are not over, and whether they keep a place."""

    @property
    def goes_on(self) -> BegunConversation | None:
        """The conversation that goes on next."""
        return min(self.begun.values(), key=lambda begun: begun.due_s, default=None)

    @property
    def due_s(self) -> float:
        """When its next canary is due; infinity = none is until something has happened."""
        begins_s, goes_on = self.traffic.rhythm.due_s, self.goes_on
        return min(math.inf if begins_s is None else begins_s, math.inf if goes_on is None else goes_on.due_s)
