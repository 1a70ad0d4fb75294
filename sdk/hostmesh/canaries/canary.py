"""A canary: a job of the client's own making, and whose words it may hold. Pure.

Words carry with them to whom they may go. :class:`OpenWords` may go to any host: the corpus's, and prompts that the
user opted in. :class:`HostWords` are the user's own, or an answer: they may go to the one host that has had them.
:meth:`Canary.messages_for` is the only way to the text, and asks for the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hostmesh.canaries.traffic import JobShape
from hostmesh.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWords:
    """Text that any host may see."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostWords:
    """Text that one host has had, and that no other one gets."""

    text: str
    peer_id: str


Words = OpenWords | HostWords


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of a canary's conversation."""

    role: str
    """``system``, ``user`` or ``assistant``."""
    words: Words


@dataclass(frozen=True, slots=True, kw_only=True)
class OptedInPrompt:
    """A prompt of the user's that he lets go to any host: the one way by which his words become open.

    Whoever makes one of these opts in; nothing makes one by itself.
    """

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A job that looks like the user's and is not.

    >>> canary = Canary(canary_id=1, peer_id="a", turns=(Turn(role="system", words=HostWords(text="s", peer_id="a")),),
    ...     shape=JobShape(length_bytes=1, max_output_tokens=8), seed=7)
    >>> canary.messages_for("a")
    (('system', 's'),)
    >>> canary.may_go_to("b")
    False
    """

    canary_id: int
    peer_id: str
    """The host that is checked; it is asked first."""
    turns: tuple[Turn, ...]
    shape: JobShape
    """What was copied: settings and lengths."""
    seed: int

    def may_go_to(self, peer_id: str) -> bool:
        """Return whether the host may see all of its words."""
        return all(isinstance(turn.words, OpenWords) or turn.words.peer_id == peer_id for turn in self.turns)

    def messages_for(self, peer_id: str) -> tuple[tuple[str, str], ...]:
        """Return the messages as pairs of role and text.

        Raises:
            UsageError: they hold words that another host was given and this one may not see.
        """
        if not self.may_go_to(peer_id):
            raise UsageError(
                "this canary holds words that were another host's", remedy="check the host against a local reference"
            )
        return tuple((turn.role, turn.words.text) for turn in self.turns)

    def messages_for_reference(self) -> tuple[tuple[str, str], ...]:
        """Return the messages for the client's reference: all, the host's own answers and system prompt among them.

        The reference is the user's choice, and may be on another machine: whoever runs it reads them.
        """
        return tuple((turn.role, turn.words.text) for turn in self.turns)

    @property
    def parameters(self) -> dict[str, object]:
        """The settings with the seed."""
        return {**dict(self.shape.parameters), "seed": self.seed}


def conversation_after(canary: Canary, answer: str) -> Sequence[Turn]:
    """Return the turns of a canary with the host's answer, which stays that host's."""
    words = HostWords(text=answer, peer_id=canary.peer_id)
    return (*canary.turns, Turn(role="assistant", words=words))
