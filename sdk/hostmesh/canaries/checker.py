"""Sends canaries with the traffic, holds the answers against a reference, and hands on the evidence.

One task, :meth:`CanaryChecker.run`. The host that is checked is asked first and alone: a quorum is asked when the
host's answer is there, so that nobody has seen the prompt before. Failed canaries are no observations: that a host
fails is told by the outcomes of its jobs.

What is needed of others stands here as Protocols; who composes the SDK gives them.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import trio

from hostmesh.canaries.canary import Canary
from hostmesh.canaries.comparison import MIN_QUORUM, agreement, quorum_agreement
from hostmesh.canaries.evidence import WINDOW, Calibration, CanaryEvidence, Observation, warmth_of, weigh
from hostmesh.canaries.plan import MAX_HOSTS, CanaryPlan
from hostmesh.canaries.traffic import JobShape
from hostmesh.errors import HostmeshError, UsageError
from hostmesh.system import System

logger = logging.getLogger("hostmesh.canaries")

MAX_AT_ONCE = 4
"""Canaries under way. One that falls due meanwhile is dropped: later it would come at a time that tells."""
MAX_QUORUM = 7
_ENTROPY_BYTES = 32
_SOON_S = 0.001
"""A canary that is due within that is due."""

Messages = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryRequest:
    """What is asked of a host or of the reference: the same for both."""

    model_id: str
    messages: Messages
    """Pairs of role and text."""
    max_output_tokens: int | None
    parameters: dict[str, object]
    """With ``seed``."""


class JobRunner(Protocol):
    """Runs a job at a host as the user's jobs are run: in his session, with its streaming and its payment."""

    async def __call__(self, peer_id: str, request: CanaryRequest) -> str:
        """Return the whole answer.

        Raises:
            HostmeshError: the job did not end well, or must not be paid for.
        """
        ...


class Reference(Protocol):
    """The client's own engine with the model's weights, in one setting or better in several.

    In several that round differently, such as with one attention path and another: where honest engines go two ways,
    either is then right, and what is left tells more.
    """

    async def __call__(self, request: CanaryRequest) -> Sequence[str]:
        """Return the whole answer in each setting, one or more.

        Raises:
            HostmeshError: it has none.
        """
        ...


class Quorum(Protocol):
    """Names other hosts of a model, of other operators than the host's and each other's."""

    def __call__(self, peer_id: str, model_id: str) -> Sequence[str]:
        """Return their peer ids; fewer than three = no quorum now."""
        ...


class EvidenceBook(Protocol):
    """Where evidence goes."""

    def record_canaries(self, evidence: CanaryEvidence) -> object:
        """Take the evidence of one window."""
        ...


class CanaryChecker:
    """Checks hosts with canaries.

    Args:
        plan: when and what; with ``open_words_only`` where ``reference`` is a quorum.
        run_job: runs a job at a host.
        reference: the client's own engine; None = ``quorum`` is asked.
        quorum: names other hosts; None = ``reference`` is asked. Exactly one of the two is given.
        calibrations: by model id, how far honest engines agree with the reference; a host of another model gets no
            canaries.
        book: gets the evidence.
        system: clock and random bytes.

    Raises:
        UsageError: neither or both of reference and quorum.
    """

    def __init__(
        self,
        plan: CanaryPlan,
        *,
        run_job: JobRunner,
        reference: Reference | None = None,
        quorum: Quorum | None = None,
        calibrations: Mapping[str, Calibration],
        book: EvidenceBook,
        system: System,
    ) -> None:
        if (reference is None) == (quorum is None):
            raise UsageError("canaries are compared with a reference or with a quorum, exactly one of them")
        if quorum is not None and not plan.open_words_only:
            raise UsageError("a quorum takes a plan with open words only", remedy="CanaryPlan(open_words_only=True)")
        self._plan = plan
        self._run_job = run_job
        self._reference = reference
        self._quorum = quorum
        self._calibrations = calibrations
        self._book = book
        self._system = system
        self._windows: OrderedDict[tuple[str, str], list[Observation]] = OrderedDict()
        """By host and model; the least recently used goes first."""
        self._changed = trio.Event()
        self._under_way = 0

    def job_started(
        self, peer_id: str, model_id: str, conversation: bytes, shape: JobShape, *, system_prompt: str | None = None
    ) -> None:
        """Note that a user's job leaves for a host. Each of a host's models has a window of its own.

        Args:
            peer_id: the host's.
            model_id: which it is to run.
            conversation: the same for all turns of one, such as a digest of the first message.
            shape: the job's.
            system_prompt: the job's, if it has one; see :class:`~hostmesh.canaries.plan.CanaryPlan`.
        """
        if model_id not in self._calibrations:
            return
        self._windows.setdefault((peer_id, model_id), [])
        self._windows.move_to_end((peer_id, model_id))
        if len(self._windows) > MAX_HOSTS:
            self._windows.popitem(last=False)
        self._plan.job_started(
            peer_id,
            conversation,
            replace(shape, model_id=model_id),
            now_s=self._system.monotonic_s(),
            entropy=self._entropy(),
            system_prompt=system_prompt,
        )
        self._wake()

    def job_ended(self, peer_id: str, model_id: str, conversation: bytes) -> None:
        """Note that a user's job is over, however it ended."""
        if model_id not in self._calibrations:
            return
        self._plan.job_ended(peer_id, conversation, now_s=self._system.monotonic_s(), entropy=self._entropy())
        self._wake()

    async def run(self) -> None:
        """Send canaries when they are due, for ever.

        Cancellation: safe; canaries under way are cancelled, as jobs are.
        """
        async with trio.open_nursery() as nursery:
            while True:
                due = self._plan.next_due()
                changed = self._changed = trio.Event()
                left_s = math.inf if due is None else due[0] - self._system.monotonic_s()
                if due is None or left_s > _SOON_S:
                    with trio.move_on_after(left_s):
                        await changed.wait()
                    continue  # a job that left in the same moment may have put it off
                canary = self._plan.make(due[1], entropy=self._entropy())
                if canary is not None and self._under_way >= MAX_AT_ONCE:
                    self._plan.failed(canary)
                elif canary is not None:
                    self._under_way += 1
                    nursery.start_soon(self._check, canary)
                await trio.lowlevel.checkpoint()

    async def _check(self, canary: Canary) -> None:
        try:
            observation = await self._observe(canary)
        except HostmeshError as error:
            logger.info("a canary at %s gave nothing: %s", canary.peer_id, error)
            self._plan.failed(canary)
            return
        finally:
            self._under_way -= 1
        model_id = canary.shape.model_id
        window = self._windows.get((canary.peer_id, model_id))
        if observation is None or window is None:
            return
        window.append(observation)
        if len(window) >= WINDOW:
            self._windows[canary.peer_id, model_id] = []
            evidence = weigh(
                window,
                peer_id=canary.peer_id,
                calibration=self._calibrations[model_id],
                reference="the reference" if self._quorum is None else "most of a quorum",
            )
            self._book.record_canaries(evidence)

    async def _observe(self, canary: Canary) -> Observation | None:
        answer = await self._run_job(canary.peer_id, _request(canary, canary.messages_for(canary.peer_id)))
        self._plan.answered(canary, answer, now_s=self._system.monotonic_s(), entropy=self._entropy())
        self._wake()
        warmth = warmth_of(canary.shape.temperature)
        if self._reference is not None:
            expected = await self._reference(_request(canary, canary.messages_for_reference()))
            return Observation(warmth=warmth, agreement=agreement(answer, expected))
        others = await self._ask_quorum(canary)
        if len(others) < MIN_QUORUM:
            return None
        odd = len(others) - (len(others) + 1) % 2
        return Observation(warmth=warmth, agreement=quorum_agreement(answer, others[:odd]))

    async def _ask_quorum(self, canary: Canary) -> list[str]:
        """Return the answers of the others, one after the other; who fails is left out."""
        assert self._quorum is not None
        answers: list[str] = []
        for peer_id in tuple(self._quorum(canary.peer_id, canary.shape.model_id))[:MAX_QUORUM]:
            if peer_id == canary.peer_id:
                continue
            try:
                answers.append(await self._run_job(peer_id, _request(canary, canary.messages_for(peer_id))))
            except HostmeshError as error:
                logger.info("%s of a quorum gave nothing: %s", peer_id, error)
        return answers

    def _entropy(self) -> bytes:
        return self._system.random_bytes(_ENTROPY_BYTES)

    def _wake(self) -> None:
        self._changed.set()


def _request(canary: Canary, messages: Messages) -> CanaryRequest:
    return CanaryRequest(
        model_id=canary.shape.model_id,
        messages=messages,
        max_output_tokens=canary.shape.max_output_tokens,
        parameters=canary.parameters,
    )
