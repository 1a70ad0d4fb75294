"""Decides when a canary goes to a host, and what it is. Pure: time and random bytes are arguments.

A host can tell a canary from a user's job by what repeats, by length, time, settings, or by a cache that one of them
hits. So canaries copy recent real conversations of the same host (:mod:`hostmesh.canaries.traffic`): their settings as
they are, their lengths within a tenth, their turns and pauses, their system prompt; they begin in proportion to the
rate of real ones; their seeds are as random as each job's. No first prompt is ever sent twice, to whomever, and lines
and passages that a host has had come last.

Of the user's words the plan is given shapes (numbers), system prompts, which go back to the host that had them and to
no other, and prompts that he opted in.

Bounds: :data:`MAX_HOSTS` hosts, the least recently used goes first; :data:`MAX_SENT` prompts in all, then no more.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from hostmesh.canaries.canary import (
    Canary,
    HostWords,
    OpenWords,
    OptedInPrompt,
    Turn,
    conversation_after,
)
from hostmesh.canaries.corpus import Corpus
from hostmesh.canaries.draws import Draws
from hostmesh.canaries.host_plan import BegunConversation, HostPlan
from hostmesh.canaries.rhythm import MAX_PAUSE_S, Asked
from hostmesh.canaries.traffic import JobShape, PastJob, Traffic, blurred, is_like, jittered
from hostmesh.errors import UsageError

DEFAULT_RATE = 0.1
"""Canary conversations for each real one."""
MAX_HOSTS = 256
MAX_AT_ONCE_OF_HOST = 4
"""Canary conversations under way with one host, so that one that holds them open keeps nobody else from being checked.
One that falls due meanwhile is dropped: later it would come at a time that tells."""
MAX_SENT = 65_536
"""Prompts that are remembered as sent; when they are as many no canary is made any more."""
MAX_OPTED_IN = 4096
MAX_SYSTEM_PROMPT_BYTES = 16_384
MAX_SYSTEM_PROMPTS = 4
"""Of a host. Those used least recently, and longer ones, are not kept: their jobs are not copied."""
MAX_CONVERSATION_BYTES = 32_768
"""A canary conversation that has grown longer is not gone on with."""
_DIGEST_BYTES = 16
_TRIES = 8
_SEEN_BY_HOST = 2**40
"""Makes a line that the host has had older than each that it has not."""


def job_seed(entropy: bytes) -> int:
    """Return the seed for a job, the user's or a canary: 0 to 2**31 - 1, each as likely.

    Every job of a client that uses canaries carries one where the host takes it, or canaries would be those that do.

    >>> 0 <= job_seed(bytes(32)) < 2**31
    True
    """
    return Draws(entropy).below(2**31)


class CanaryPlan:
    """When canaries go to which host, and what they are.

    Args:
        corpus: what first prompts and follow-ups are composed of.
        rate: canary conversations for each real one, > 0 and <= 1.
        opted_in: prompts of the user's that may go to any host; each is used once, before the corpus where its length
            fits.
        sent: :meth:`sent` of an earlier plan, so that nothing is sent again after a restart.
        open_words_only: canaries hold nothing that only their host may see, so that a quorum can be asked, too. They
            have one turn and no system prompt, and jobs that have one are not copied: a copy would be known by that.

    Raises:
        UsageError: more opted-in prompts than :data:`MAX_OPTED_IN`, or an empty one.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        rate: float = DEFAULT_RATE,
        opted_in: Sequence[OptedInPrompt] = (),
        sent: Iterable[bytes] = (),
        open_words_only: bool = False,
    ) -> None:
        if len(opted_in) > MAX_OPTED_IN or not all(prompt.text for prompt in opted_in):
            raise UsageError(f"at most {MAX_OPTED_IN} opted-in prompts, none of them empty")
        self._corpus = corpus
        self._rate = rate
        self.open_words_only = open_words_only
        self._sent = set(sent)
        self._opted_in = [prompt.text for prompt in opted_in if text_digest(prompt.text) not in self._sent]
        self._hosts: OrderedDict[str, HostPlan] = OrderedDict()
        self._ages: dict[str, int] = {}
        self._made = 0
        self._is_stopped = False

    def job_asked(self, peer_id: str, conversation: bytes | None, *, now_s: float, entropy: bytes) -> Asked:
        """Note that the user asks for a job at a host.

        :meth:`job_started`, :meth:`other_job_started` or :meth:`job_withdrawn` follows.

        Args:
            peer_id: the host's.
            conversation: the same for all turns of one conversation, and for no other; at most 32 bytes are kept. None
                = the job is not to be copied.
            now_s: monotonic seconds.
            entropy: 32 random bytes.
        """
        host = self._hosts.get(peer_id) or self._add(peer_id)
        self._hosts.move_to_end(peer_id)
        return host.traffic.job_asked(
            None if conversation is None else conversation[:32], now_s=now_s, draws=Draws(entropy)
        )

    def leaves_s(self, peer_id: str, asked: Asked) -> float:
        """Return when a real job may leave, so that it tells no canary, as is known now.

        It is to be asked again after whatever happens at the host; infinity = there is nothing else to wait for.
        """
        host = self._hosts.get(peer_id)
        return asked.asked_s if host is None else host.traffic.rhythm.leaves_s(asked)

    def has_waited(self, peer_id: str, asked: Asked, *, now_s: float) -> None:
        """Note that a real job leaves though it should wait: the host takes too long over a canary.

        Nobody waits any more for the canary that the host has had for longest.
        """
        host = self._hosts.get(peer_id)
        if host is None or not host.traffic.rhythm.has_waited(asked, now_s):
            return
        oldest = next((canary_id for canary_id, keeps_place in host.running.items() if keeps_place), None)
        if oldest is not None:
            host.running[oldest] = False
            return
        for begun in host.begun.values():
            if begun.keeps_place:
                begun.keeps_place = False
                return

    def job_withdrawn(self, peer_id: str, asked: Asked) -> None:
        """Note that a job that was asked for does not leave."""
        host = self._hosts.get(peer_id)
        if host is not None:
            host.traffic.rhythm.job_withdrawn(asked)

    def job_started(
        self,
        peer_id: str,
        conversation: bytes,
        shape: JobShape,
        *,
        asked: Asked,
        now_s: float,
        entropy: bytes,
        system_prompt: str | None = None,
    ) -> None:
        """Note that a real job leaves for a host.

        Args:
            peer_id: the host's.
            conversation: as in :meth:`job_asked`.
            shape: the job's.
            asked: as :meth:`job_asked` returned it.
            now_s: monotonic seconds.
            entropy: 32 random bytes.
            system_prompt: the job's, which its copies take back to this host alone; None = it has none.
        """
        host = self._hosts.get(peer_id)
        if host is None:
            return  # so many others were used since that this one is forgotten
        digest = None if system_prompt is None else text_digest(system_prompt)
        if digest is not None and system_prompt is not None and len(system_prompt.encode()) <= MAX_SYSTEM_PROMPT_BYTES:
            host.system_prompts[digest] = system_prompt
            host.system_prompts.move_to_end(digest)
            if len(host.system_prompts) > MAX_SYSTEM_PROMPTS:
                host.system_prompts.popitem(last=False)
        host.traffic.job_started(
            conversation[:32], shape, asked=asked, now_s=now_s, draws=Draws(entropy), system_prompt=digest
        )
        self._give_up_too_many(host, now_s, Draws(entropy))

    def other_job_started(self, peer_id: str, *, asked: Asked, now_s: float, entropy: bytes) -> None:
        """Note that a job leaves for a host that is not to be copied, such as one of another model of the host's."""
        host = self._hosts.get(peer_id)
        if host is not None:
            host.traffic.rhythm.job_started(asked, now_s, Draws(entropy))
            self._give_up_too_many(host, now_s, Draws(entropy))

    def other_job_ended(self, peer_id: str, *, now_s: float, entropy: bytes) -> None:
        """Note that such a job is over."""
        host = self._hosts.get(peer_id)
        if host is not None:
            host.traffic.rhythm.job_ended(now_s, Draws(entropy))

    def job_ended(self, peer_id: str, conversation: bytes, *, now_s: float, entropy: bytes) -> None:
        """Note that a real job of a host is over, however it ended."""
        host = self._hosts.get(peer_id)
        if host is not None:
            host.traffic.job_ended(conversation[:32], now_s=now_s, draws=Draws(entropy))

    def stop(self, *, now_s: float, entropy: bytes) -> None:
        """Have no further canary due, neither first turns nor further ones: nobody waits for one that is not sent."""
        self._is_stopped = True
        for host in self._hosts.values():
            host.traffic.rhythm.stop(now_s)
            for begun in tuple(host.begun.values()):
                self._give_up(host, begun, now_s, Draws(entropy))

    def knows(self, peer_id: str) -> bool:
        """Whether traffic of a host is remembered."""
        return peer_id in self._hosts

    def restore(self, peer_id: str, jobs: Iterable[PastJob]) -> None:
        """Take in a host's jobs of an earlier run, where nothing is remembered of it.

        Args:
            peer_id: the host's.
            jobs: the oldest first. Of their system prompts the texts are missing: they are copied when a job of this
                run has shown them again.
        """
        if peer_id not in self._hosts:
            self._add(peer_id).traffic.restore(jobs)

    @property
    def is_exhausted(self) -> bool:
        """As many prompts were sent as are remembered: no canary is made any more."""
        return len(self._sent) >= MAX_SENT

    def next_due(self) -> tuple[float, str] | None:
        """Return when the next canary is due, and for which host; None = none is until another real job.

        Cost: O(hosts).
        """
        due = [(host.due_s, peer_id) for peer_id, host in self._hosts.items() if host.due_s < math.inf]
        return min(due, default=None)

    def make(self, peer_id: str, *, now_s: float, entropy: bytes) -> Canary | None:
        """Return the canary that is due, and plan the host's next one.

        Args:
            peer_id: the host's.
            now_s: monotonic seconds.
            entropy: 32 random bytes.

        Returns:
            None when the host's last canary conversation is not over, when no real one can be copied, or when no text
            that was not sent before could be made; the user may opt in prompts of his own.

        Raises:
            UsageError: nothing is due for the host.
        """
        host = self._hosts.get(peer_id)
        if host is None or host.due_s == math.inf:
            raise UsageError("no canary is due for this host", remedy="ask next_due() first")
        draws = Draws(entropy)
        rhythm = host.traffic.rhythm
        begun = host.goes_on
        if begun is not None and begun.due_s == host.due_s:
            del host.begun[begun.canary_id]
            if not begun.keeps_place:
                rhythm.canary_goes_on()
            canary = self._next_turn(peer_id, host, begun, draws)
            if canary is None:
                rhythm.canary_over(now_s, draws)
            return canary
        copy = self._conversation(peer_id, host, now_s, draws)
        waited_s = rhythm.waited_s(now_s)
        canary = None if copy is None else self._next_turn(peer_id, host, copy, draws, waited_s=waited_s)
        if canary is None:
            rhythm.canary_dropped(now_s, draws)
        else:
            rhythm.canary_began(now_s, draws)
        return canary

    def answered(self, canary: Canary, answer: str, *, now_s: float, entropy: bytes) -> None:
        """Note the host's answer, after which its conversation may go on."""
        host = self._hosts.get(canary.peer_id)
        if host is None or canary.canary_id not in host.running:
            return
        draws = Draws(entropy)
        keeps_place = host.running.pop(canary.canary_id)
        begun = host.begun.get(canary.canary_id)
        if begun is not None:
            begun.turns = conversation_after(canary, answer)
            pause_s = jittered(begun.pauses_s.pop(0), draws)
            begun.due_s = now_s + pause_s
            begun.keeps_place = keeps_place and pause_s <= MAX_PAUSE_S
        if keeps_place and (begun is None or not begun.keeps_place):
            host.traffic.rhythm.canary_over(now_s, draws)
        if begun is None:
            return
        if sum(len(turn.words.text.encode()) for turn in begun.turns) > MAX_CONVERSATION_BYTES:
            self._give_up(host, begun, now_s, draws)

    def failed(self, canary: Canary, *, now_s: float, entropy: bytes) -> None:
        """Note that the host gave no answer: the conversation is over. Nothing where it answered before."""
        host = self._hosts.get(canary.peer_id)
        if host is None or canary.canary_id not in host.running:
            return
        host.begun.pop(canary.canary_id, None)
        if host.running.pop(canary.canary_id):
            host.traffic.rhythm.canary_over(now_s, Draws(entropy))

    def sent(self) -> list[bytes]:
        """Return what a plan after a restart must know so as to send nothing again: digests, 16 bytes each."""
        return sorted(self._sent)

    def _add(self, peer_id: str) -> HostPlan:
        host = self._hosts[peer_id] = HostPlan(Traffic(rate=self._rate))
        if self._is_stopped:
            host.traffic.rhythm.stop(-math.inf)
        if len(self._hosts) > MAX_HOSTS:
            self._hosts.popitem(last=False)
        return host

    def _give_up_too_many(self, host: HostPlan, now_s: float, draws: Draws) -> None:
        """Give up conversations whose next turn would be one job too many."""
        for begun in tuple(host.begun.values()):
            if not host.traffic.rhythm.has_room(0 if begun.keeps_place else 1):
                self._give_up(host, begun, now_s, draws)

    def _give_up(self, host: HostPlan, begun: BegunConversation, now_s: float, draws: Draws) -> None:
        del host.begun[begun.canary_id]
        if begun.due_s < math.inf and begun.keeps_place:
            host.traffic.rhythm.canary_over(now_s, draws)

    def _conversation(self, peer_id: str, host: HostPlan, now_s: float, draws: Draws) -> BegunConversation | None:
        """Return a copy of a real conversation, if there may be one now."""
        if len(host.running.keys() | host.begun.keys()) >= MAX_AT_ONCE_OF_HOST:
            return None
        held = {} if self.open_words_only else host.system_prompts
        copied = host.traffic.conversation(draws, now_s=now_s, system_prompts=held)
        if copied is None or (self.open_words_only and any(shape.has_words for shape in copied.shapes)):
            return None
        before: tuple[Turn, ...] = ()
        system_prompt = host.system_prompts.get(copied.system_prompt or b"")
        if system_prompt is not None:
            words = HostWords(text=system_prompt, peer_id=peer_id)
            before = (Turn(role="system", words=words),)
        return BegunConversation(list(copied.shapes), list(copied.pauses_s), before)

    def _next_turn(
        self, peer_id: str, host: HostPlan, begun: BegunConversation, draws: Draws, *, waited_s: float = 0.0
    ) -> Canary | None:
        copied = begun.shapes.pop(0)
        length = max(1, round(jittered(copied.length_bytes, draws)))
        text = self._new_text(host, draws, length, follows=any(turn.role == "user" for turn in begun.turns))
        if text is None:
            return None
        self._made += 1
        canary = Canary(
            canary_id=self._made,
            peer_id=peer_id,
            turns=(*begun.turns, Turn(role="user", words=OpenWords(text=text))),
            shape=JobShape(
                length_bytes=len(text.encode()),
                max_output_tokens=_tokens_like(copied, host.traffic.shapes, draws),
                parameters=copied.parameters,
                model_id=copied.model_id,
                timeout_s=None if copied.timeout_s is None else max(copied.timeout_s - waited_s, copied.timeout_s / 2),
            ),
            seed=_seed(copied, draws),
        )
        host.running[canary.canary_id] = True
        if begun.shapes and not self.open_words_only:
            begun.canary_id = canary.canary_id
            begun.due_s, begun.keeps_place = math.inf, True
            host.begun[begun.canary_id] = begun
        return canary

    def _new_text(self, host: HostPlan, draws: Draws, length: int, *, follows: bool) -> str | None:
        if self.is_exhausted:
            return None
        opted_in = None if follows else self._fitting_prompt(length)
        if opted_in is not None:
            self._sent.add(text_digest(opted_in))
            return opted_in

        def age(part: str) -> int:
            return self._ages.get(part, 0) + (_SEEN_BY_HOST if part in host.parts else 0)

        compose = self._corpus.follow_up if follows else self._corpus.compose
        for _ in range(_TRIES):
            prompt = compose(draws, length_bytes=length, age=age)
            # A further message may be as short as "Why is that?": what is new is the conversation.
            if follows or text_digest(prompt.text) not in self._sent:
                self._sent.add(text_digest(prompt.text))
                self._ages.update(dict.fromkeys(prompt.parts, self._made + 1))
                host.parts.update(prompt.parts)
                return prompt.text
        return None

    def _fitting_prompt(self, length: int) -> str | None:
        """Take the opted-in prompt of the nearest length, if that is near enough to tell nothing."""
        fitting = [text for text in self._opted_in if is_like(len(text.encode()), length)]
        if not fitting:
            return None
        chosen = min(fitting, key=lambda text: abs(len(text.encode()) - length))
        self._opted_in.remove(chosen)
        return chosen


def _tokens_like(copied: JobShape, shapes: Sequence[JobShape], draws: Draws) -> int | None:
    if copied.max_output_tokens is None:
        return None
    others = [shape.max_output_tokens for shape in shapes if shape.max_output_tokens is not None]
    return blurred(others, draws, copied.max_output_tokens)


def _seed(copied: JobShape, draws: Draws) -> int:
    given = dict(copied.parameters).get("seed")
    return given if isinstance(given, int) else draws.below(2**31)


def text_digest(text: str) -> bytes:
    """Return what a plan remembers of a text: 16 bytes of its SHA-256."""
    return hashlib.sha256(text.encode()).digest()[:_DIGEST_BYTES]
