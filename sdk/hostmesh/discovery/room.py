"""Room for what others tell of keys, shared so that nobody's flood pushes out what others told. Pure.

Keys and wallets cost nothing, and neither does what their owners sign of each other. So the room is shared by how well
the key was known here when it was told of: a newcomer pushes out only what is of keys that were known less, or as
little and came longer ago; of equals, first what the key's owner did not sign himself, as that a binding voids those of
lower epochs: every host with a binding brings such. Keys that nobody here knew have a quarter of the room. What came
from one network (the /24 of IPv4 or /48 of IPv6 that the connection to the teller leads to, which is no claim) takes an
eighth of either room, 16 places at least: a flood pushes out its own like.

No clock decides what goes first, only the order of coming: a clock that steps makes nothing older or younger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeVar

STRANGERS_SHARE = 4
"""Keys that nobody here knew take one part in so many of the room."""
SUBNET_SHARE = 8
"""What came from one network takes one part in so many of the room."""
LEAST_PER_SUBNET = 16
"""Places that one network may fill in a list however small."""


class Familiarity(IntEnum):
    """How well a key was known here when it was told of."""

    STRANGER = 0
    """Others spoke of it, at most."""
    SEEN = 1
    """It gave us a record itself."""
    USED = 2
    """It answered us."""


class Told(Protocol):
    """Something that was told of a key."""

    @property
    def familiarity(self) -> Familiarity:
        """How well the key was known."""
        ...

    @property
    def subnet(self) -> str:
        """The network of whoever told it, as the connection showed it."""
        ...

    @property
    def is_owners_word(self) -> bool:
        """Whether the key's owner signed just this; else it follows from something else that he signed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many places of a kind there may be."""

    is_of_strangers: bool
    """Only keys that nobody here knew; else all."""
    is_of_subnet: bool
    """Only what came from one network, each for itself."""
    most: int


def rooms_of(most: int) -> tuple[Room, ...]:
    """Return the bounds of a list of ``most`` places, in the order in which they are to be kept."""
    strangers = max(1, most // STRANGERS_SHARE)
    return tuple(
        Room(
            is_of_strangers=is_of_strangers,
            is_of_subnet=is_of_subnet,
            most=max(LEAST_PER_SUBNET, room // SUBNET_SHARE) if is_of_subnet else room,
        )
        for is_of_subnet in (True, False)
        for is_of_strangers, room in ((True, strangers), (False, most))
    )


KeyT = TypeVar("KeyT")
ToldT = TypeVar("ToldT", bound=Told)


def make_room(told: dict[KeyT, ToldT], newcomer: ToldT, rooms: tuple[Room, ...]) -> None:
    """Take out what there is no room for, now that ``newcomer`` is in.

    Args:
        told: in the order in which they were put in; the newcomer may be the one that goes.
        newcomer: the only one that came since the bounds held.
        rooms: of :func:`rooms_of`.

    Cost: O(told).
    """
    for room in rooms:
        inside = {key: each for key, each in told.items() if _is_inside(each, room, newcomer)}
        if len(inside) > room.most:
            del told[_least(inside)]


def _is_inside(each: Told, room: Room, newcomer: Told) -> bool:
    if room.is_of_strangers and each.familiarity is not Familiarity.STRANGER:
        return False
    return not room.is_of_subnet or each.subnet == newcomer.subnet


def _least(inside: Mapping[KeyT, ToldT]) -> KeyT:
    # The first of equals: the order is that in which they were put in.
    return min(inside, key=lambda key: (inside[key].familiarity, inside[key].is_owners_word))
