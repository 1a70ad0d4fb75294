"""Which version of a protocol two sides have in common. Pure.

Each version is a libp2p protocol with an id of its own, ``/hostmesh/chat/1.1.0``, so that to agree on one nothing but
ids is compared. The numbers in them are read only to tell people what went wrong: strictly, and few are repeated.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from hostmesh.errors import ProtocolNotSupportedError

Version = tuple[int, int, int]

MAX_SHOWN_RANGES = 4
"""How much of what a peer speaks an error tells: it may speak hundreds of versions."""
_VERSION = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})")


def highest_common(protocol_ids: Iterable[str], spoken: Collection[str]) -> str | None:
    """Return the first of our protocol ids that a peer speaks too, or None.

    Args:
        protocol_ids: ours, the highest version first.
        spoken: the peer's, in any order; a set, where there are many.

    >>> highest_common(("/chat/1.2.0", "/chat/1.1.0", "/chat/1.0.0"), {"/chat/1.0.0", "/chat/1.1.0", "/job/1.0.0"})
    '/chat/1.1.0'
    """
    for protocol_id in protocol_ids:
        if protocol_id in spoken:
            return protocol_id
    return None


def split_version(protocol_id: str) -> tuple[str, Version] | None:
    """Return the name and version of a protocol id, or None where it does not end with three numbers.

    >>> split_version("/hostmesh/chat/1.1.0"), split_version("/ipfs/kad/1.x")
    (('/hostmesh/chat', (1, 1, 0)), None)
    """
    name, _, text = protocol_id.rpartition("/")
    numbers = _VERSION.fullmatch(text)
    return None if numbers is None or not name else (name, (int(numbers[1]), int(numbers[2]), int(numbers[3])))


def show_versions(versions: Iterable[Version]) -> str:
    """Return versions for people to read, the lowest first; minor versions without a gap are a range.

    >>> show_versions([(1, 2, 0), (1, 1, 0), (1, 0, 0)]), show_versions([(1, 3, 0), (1, 0, 0)])
    ('1.0.0 to 1.2.0', '1.0.0, 1.3.0')
    """
    ranges: list[list[Version]] = []
    for version in sorted(set(versions)):
        if ranges and _follows(version, ranges[-1][-1]):
            ranges[-1].append(version)
        else:
            ranges.append([version])
    shown = ", ".join(
        _text(first) if first == last else f"{_text(first)} to {_text(last)}"
        for first, *_, last in ((*each, each[-1]) for each in ranges[:MAX_SHOWN_RANGES])
    )
    left = sum(len(each) for each in ranges[MAX_SHOWN_RANGES:])
    return f"{shown} and {left} more" if left else shown


def refusal(
    peer: str, needed: Sequence[str], spoken: Collection[str], refused: Collection[str]
) -> ProtocolNotSupportedError:
    """Return the error of a peer that agreed to none of our protocols, or no longer to what it had told.

    Args:
        peer: who refused.
        needed: ids of which each would have done, the highest version first; at least one.
        spoken: what the peer told, a set; empty: it has not told.
        refused: what it refused nevertheless.

    >>> error = refusal("PEER", ("/chat/2.1.0", "/chat/2.0.0"), {"/chat/1.0.0"}, {"/chat/2.1.0"})
    >>> error.message, error.remedy
    ('/chat: this node speaks 2.0.0 to 2.1.0, PEER speaks 1.0.0', 'PEER must be updated')
    """
    left = highest_common((each for each in needed if each not in refused), spoken)
    # Where one is left, the refused one was believed to be spoken, if not by the latest word.
    broken = [each for each in refused if left is not None or each in spoken]
    message, remedy = _words(peer, needed, [each for each in spoken if each not in refused], broken)
    error = ProtocolNotSupportedError(message, needed=needed[0], offered=tuple(sorted(spoken)), remedy=remedy)
    if left is not None:
        # Nothing ran, and the next attempt does not rest on the word that was wrong.
        error.retry_safe, error.remedy = True, f"make the call again: it takes {left.rpartition('/')[2]}"
    return error


def _words(peer: str, needed: Sequence[str], offered: Sequence[str], broken: Sequence[str]) -> tuple[str, str]:
    name = needed[0].rpartition("/")[0]
    ours = _versions(name, needed)
    if len(ours) != len(needed):
        # No versions of one protocol.
        return f"{peer} does not speak {' or '.join(needed)}", _ELSEWHERE
    theirs = _versions(name, offered)
    text = f"{name}: this node speaks {show_versions(ours)}, {peer} "
    if theirs:
        text += f"speaks {show_versions(theirs)}"
    elif offered or broken:
        text += "speaks no version of it"
    else:
        text += "speaks none of these and has not told what it speaks"
    if broken:
        text += f", and refused {show_versions(_versions(name, broken))}, which it had told"
    if not theirs:
        return text, _ELSEWHERE
    if max(theirs) < min(ours):
        return text, f"{peer} must be updated"
    if min(theirs) > max(ours):
        return text, "this node must be updated"
    return text, f"this node or {peer} must be updated, so that they speak a version in common"


_ELSEWHERE = "the peer does not serve it, or has another prefix for its protocols: ask another peer"


def _versions(name: str, protocol_ids: Iterable[str]) -> list[Version]:
    found = map(split_version, protocol_ids)
    return [each[1] for each in found if each is not None and each[0] == name]


def _follows(version: Version, before: Version) -> bool:
    return version[2] == before[2] == 0 and version[:2] == (before[0], before[1] + 1)


def _text(version: Version) -> str:
    return ".".join(map(str, version))
