"""Sends canaries with the traffic, holds the answers against a reference, and hands on the evidence.

One task, :meth:`CanaryChecker.run`. The host that is checked is asked first and alone: a quorum is asked when the
host's answer is there, so that nobody has seen the prompt before. Failed canaries are no observations: that a host
fails is told by the outcomes of its jobs, and that it fails canaries only by :attr:`CanaryChecker.unanswered`.

What is needed of others stands in :mod:`hostmesh.canaries.asking`; who composes the SDK gives it.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import replace

import trio

from hostmesh.canaries.asking import CanaryAnswer, CanaryRequest, EvidenceBook, JobRunner, Messages, Quorum, Reference
from hostmesh.canaries.canary import Canary
from hostmesh.canaries.canary_store import CanaryStore
from hostmesh.canaries.comparison import Agreement, agreement
from hostmesh.canaries.evidence import MIN_QUORUM, Calibration, Observation, warmth_of, weigh
from hostmesh.canaries.plan import MAX_HOSTS, CanaryPlan, text_digest
from hostmesh.canaries.rhythm import Asked
from hostmesh.canaries.traffic import JobShape, longest_wait_s
from hostmesh.errors import BudgetExceededError, DeadlineExceededError, HostmeshError, StoreError, UsageError
from hostmesh.system import System

logger = logging.getLogger("hostmesh.canaries")

MAX_AT_ONCE = 128
"""Canaries under way. One that falls due meanwhile is dropped: later it would come at a time that tells."""
MANY_IN_VAIN = 8
"""Canaries in a row without an answer to compare: the host is not checked by them."""
LONGEST_S = 600.0
"""Longest that an answer to a canary is awaited: the copied job may have no deadline. Of this clock only, and of no
call's deadline, which a host would see."""
MAX_QUORUM = 7
_REFERENCE = "reference"
_ENTROPY_BYTES = 32
_SOON_S = 0.001
"""A canary that is due within that is due."""


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
        store: what is known over a restart; None = in memory. The caller closes it.

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
        store: CanaryStore | None = None,
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
        self._store = store or CanaryStore()
        self._is_stopped = False
        self._unaffordable: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._in_vain: OrderedDict[tuple[str, str], int] = OrderedDict()
        """By host and model, canaries in a row that gave nothing."""
        self._changed = trio.Event()
        self._waiting: dict[str, dict[Asked, trio.Event]] = {}
        """Real jobs that may not leave yet, by host, in the order in which they were asked for."""
        self._is_running = False
        self._under_way: Counter[str] = Counter()
        """By host, those that it has not answered."""
        self._open = 0
        """Of all hosts, with those that are held against others' answers."""

    async def may_leave(self, peer_id: str, conversation: bytes | None, *, timeout_s: float | None) -> Asked:
        """Return when a user's job may leave for a host, so that it tells no canary.

        See :mod:`hostmesh.canaries.rhythm`. :meth:`job_started` or :meth:`other_job_started` follows, at once.

        Args:
            peer_id: the host's.
            conversation: the same for all turns of one, and for no other; None = the job is not to be copied.
            timeout_s: the job's limit, of which it waits half at most; None = it has none.

        Cancellation: safe; the job is withdrawn.
        """
        self._restore(peer_id)
        now_s = self._system.monotonic_s()
        asked = self._plan.job_asked(peer_id, conversation, now_s=now_s, entropy=self._entropy())
        self._wake(peer_id)
        try:
            with trio.move_on_after(longest_wait_s(timeout_s)) as scope:
                await self._wait(peer_id, asked)
            if scope.cancelled_caught:
                self._plan.has_waited(peer_id, asked, now_s=self._system.monotonic_s())
        except BaseException:
            self._plan.job_withdrawn(peer_id, asked)
            self._wake(peer_id)
            raise
        return asked

    async def _wait(self, peer_id: str, asked: Asked) -> None:
        waiting = self._waiting.setdefault(peer_id, {})
        try:
            while self._is_running:
                left_s = self._plan.leaves_s(peer_id, asked) - self._system.monotonic_s()
                if left_s <= 0.0:
                    return
                changed = waiting[asked] = trio.Event()
                with trio.move_on_after(left_s):
                    await changed.wait()
        finally:
            waiting.pop(asked, None)
            if not waiting:
                self._waiting.pop(peer_id, None)

    def job_started(
        self,
        peer_id: str,
        model_id: str,
        conversation: bytes,
        shape: JobShape,
        *,
        asked: Asked,
        system_prompt: str | None = None,
    ) -> None:
        """Note that a user's job leaves for a host. Each of a host's models has a window of its own.

        Args:
            peer_id: the host's.
            model_id: which it is to run.
            conversation: as in :meth:`may_leave`.
            shape: the job's.
            asked: as :meth:`may_leave` returned it.
            system_prompt: the job's, if it has one; see :class:`~hostmesh.canaries.plan.CanaryPlan`.
        """
        if model_id not in self._calibrations:
            self.other_job_started(peer_id, asked=asked)
            return
        shape = replace(shape, model_id=model_id)
        digest = None if system_prompt is None else text_digest(system_prompt)
        now_s = self._system.monotonic_s()
        asked_unix_s = self._system.unix_s() - (now_s - asked.asked_s)
        try:
            self._store.job_started(peer_id, conversation, shape, digest, unix_s=asked_unix_s)
        except StoreError as error:
            # The user's job is not to fail by it.
            logger.warning("traffic is not on disk: %s", error.message)
        self._plan.job_started(
            peer_id,
            conversation,
            shape,
            asked=asked,
            now_s=now_s,
            entropy=self._entropy(),
            system_prompt=system_prompt,
        )
        self._wake(peer_id)

    def other_job_started(self, peer_id: str, *, asked: Asked) -> None:
        """Note that a user's job leaves for a host that is not copied: its host sees it among canaries all the same."""
        now_s = self._system.monotonic_s()
        self._plan.other_job_started(peer_id, asked=asked, now_s=now_s, entropy=self._entropy())
        self._wake(peer_id)

    def other_job_ended(self, peer_id: str) -> None:
        """Note that such a job is over."""
        self._plan.other_job_ended(peer_id, now_s=self._system.monotonic_s(), entropy=self._entropy())
        self._wake(peer_id)

    def _restore(self, peer_id: str) -> None:
        """Take in what an earlier run knew of a host."""
        if self._plan.knows(peer_id):
            return
        now_s, unix_s = self._system.monotonic_s(), self._system.unix_s()
        try:
            self._plan.restore(peer_id, self._store.jobs(peer_id, unix_s=unix_s, now_s=now_s))
        except StoreError as error:
            logger.warning("earlier traffic cannot be read: %s", error.message)

    def job_ended(self, peer_id: str, model_id: str, conversation: bytes) -> None:
        """Note that a user's job is over, however it ended."""
        if model_id not in self._calibrations:
            self.other_job_ended(peer_id)
            return
        self._plan.job_ended(peer_id, conversation, now_s=self._system.monotonic_s(), entropy=self._entropy())
        try:
            self._store.job_ended(peer_id, conversation, unix_s=self._system.unix_s())
        except StoreError as error:
            logger.warning("traffic is not on disk: %s", error.message)
        self._wake(peer_id)

    @property
    def unaffordable(self) -> tuple[tuple[str, str], ...]:
        """Hosts and models whose latest canary could have cost more than may be spent on it: it did not leave."""
        return tuple(self._unaffordable)

    @property
    def unanswered(self) -> tuple[tuple[str, str], ...]:
        """Hosts and models whose latest :data:`MANY_IN_VAIN` canaries or more gave nothing, each for some reason.

        A host may refuse each job once: a user asks again, and a canary is not sent twice.
        """
        return tuple(key for key, count in self._in_vain.items() if count >= MANY_IN_VAIN)

    @property
    def is_exhausted(self) -> bool:
        """Every prompt that is remembered as sent has its place taken: no canary leaves any more."""
        return self._plan.is_exhausted

    def stop(self) -> None:
        """Send no more; :meth:`run` returns when those under way are answered."""
        self._is_stopped = True
        self._plan.stop(now_s=self._system.monotonic_s(), entropy=self._entropy())
        self._wake(*self._waiting)

    async def run(self) -> None:
        """Send canaries when they are due, until :meth:`stop` or until all prompts that may be are sent.

        Cancellation: safe; canaries under way are cancelled, as jobs are.
        """
        self._is_running = True
        try:
            await self._run()
        finally:
            self._is_running = False
            self._wake(*self._waiting)

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            while not self._is_stopped:
                if self.is_exhausted:
                    logger.warning("no canary is sent any more: as many prompts were as are remembered")
                    self.stop()
                    break
                due = self._plan.next_due()
                changed = self._changed = trio.Event()
                left_s = math.inf if due is None else due[0] - self._system.monotonic_s()
                if due is None or left_s > _SOON_S:
                    with trio.move_on_after(left_s):
                        await changed.wait()
                    continue  # a job that left in the same moment may have put it off
                now_s = self._system.monotonic_s()
                canary = self._plan.make(due[1], now_s=now_s, entropy=self._entropy())
                if canary is not None and self._open >= MAX_AT_ONCE:
                    self._plan.failed(canary, now_s=now_s, entropy=self._entropy())
                elif canary is not None:
                    self._under_way[canary.peer_id] += 1
                    self._open += 1
                    nursery.start_soon(self._check, canary)
                self._wake(due[1])
                await trio.lowlevel.checkpoint()

    async def _check(self, canary: Canary) -> None:
        try:
            answer = await self._ask_host(canary)
            if answer is None:
                return
            agreements = await self._compare(canary, answer)
            if agreements is not None:
                observation = Observation(warmth=warmth_of(canary.shape.temperature), agreements=agreements)
                self._note(canary.peer_id, canary.shape.model_id, answer.operator, observation)
            self._unaffordable.pop((canary.peer_id, canary.shape.model_id), None)
            self._in_vain.pop((canary.peer_id, canary.shape.model_id), None)
        except HostmeshError as error:
            logger.info("a canary at %s gave nothing: %s", canary.peer_id, error)
            if isinstance(error, BudgetExceededError):
                self._note_unaffordable(canary.peer_id, canary.shape.model_id)
            else:
                self._note_in_vain(canary.peer_id, canary.shape.model_id)
        finally:
            self._open -= 1

    async def _ask_host(self, canary: Canary) -> CanaryAnswer | None:
        """Return the host's answer; None = the canary may not leave. Then the host's place is free again."""
        try:
            if not self._may_leave(canary):
                return None
            answer = await self._ask(canary.peer_id, _request(canary, canary.messages_for(canary.peer_id)))
            self._plan.answered(canary, answer.text, now_s=self._system.monotonic_s(), entropy=self._entropy())
            return answer
        finally:
            # Nothing, where it was answered.
            self._plan.failed(canary, now_s=self._system.monotonic_s(), entropy=self._entropy())
            self._under_way[canary.peer_id] -= 1
            if not self._under_way[canary.peer_id]:
                del self._under_way[canary.peer_id]
            self._wake(canary.peer_id)

    def _may_leave(self, canary: Canary) -> bool:
        """Note a first prompt on disk before it leaves: another run, or program of the user's, may have sent it."""
        if any(turn.role == "assistant" for turn in canary.turns):
            return True
        return self._store.add_sent(text_digest(canary.turns[-1].words.text))

    def _note_unaffordable(self, peer_id: str, model_id: str) -> None:
        key = (peer_id, model_id)
        if key not in self._unaffordable:
            logger.warning("canaries of %s at %s could cost more than may be spent on them", model_id, peer_id)
        self._unaffordable[key] = None
        if len(self._unaffordable) > MAX_HOSTS:
            self._unaffordable.popitem(last=False)

    def _note_in_vain(self, peer_id: str, model_id: str) -> None:
        key = (peer_id, model_id)
        self._in_vain[key] = self._in_vain.pop(key, 0) + 1
        if self._in_vain[key] == MANY_IN_VAIN:
            logger.warning("%d canaries of %s at %s in a row gave nothing", MANY_IN_VAIN, model_id, peer_id)
        if len(self._in_vain) > MAX_HOSTS:
            self._in_vain.popitem(last=False)

    def _note(self, peer_id: str, model_id: str, operator: str, observation: Observation) -> None:
        """Take in an observation; make evidence of the window that it completes.

        Raises:
            StoreError: it, or the evidence, could not be written.
        """
        window = self._store.add_observation(peer_id, model_id, observation, operator=operator)
        if not window:
            return
        evidence = weigh(
            window,
            peer_id=peer_id,
            operator=operator,
            calibration=self._calibrations[model_id],
            reference="the reference" if self._quorum is None else "most of a quorum",
        )
        if evidence is None:
            logger.info("a window of %s gave nothing: too few of the quorum answered", peer_id)
            return
        self._book.record_canaries(evidence)

    async def _ask(self, peer_id: str, request: CanaryRequest) -> CanaryAnswer:
        with trio.move_on_after(LONGEST_S):
            return await self._run_job(peer_id, request)
        raise DeadlineExceededError(f"{peer_id} did not answer a canary within {LONGEST_S:g} s")

    async def _compare(self, canary: Canary, answer: CanaryAnswer) -> dict[str, Agreement] | None:
        """Hold an answer against the reference's, or those of a quorum; None = too few of it answered."""
        if self._reference is not None:
            expected = await self._reference(
                _request(canary, canary.messages_for_reference(), answer.max_output_tokens)
            )
            return {_REFERENCE: agreement(answer.text, expected)}
        others = await self._ask_quorum(canary, answer.max_output_tokens)
        if len(others) < MIN_QUORUM:
            return None
        return {peer_id: agreement(answer.text, [other]) for peer_id, other in others.items()}

    async def _ask_quorum(self, canary: Canary, max_output_tokens: int) -> dict[str, str]:
        """Ask the others one after the other, and return their answers by peer id; who fails is left out."""
        assert self._quorum is not None
        answers: dict[str, str] = {}
        too_dear: BudgetExceededError | None = None
        for peer_id in tuple(self._quorum(canary.peer_id, canary.shape.model_id))[:MAX_QUORUM]:
            if peer_id == canary.peer_id:
                continue
            try:
                request = _request(canary, canary.messages_for(peer_id), max_output_tokens)
                answers[peer_id] = (await self._ask(peer_id, request)).text
            except HostmeshError as error:
                logger.info("%s of a quorum gave nothing: %s", peer_id, error)
                too_dear = error if isinstance(error, BudgetExceededError) else too_dear
        if too_dear is not None and len(answers) < MIN_QUORUM:
            raise too_dear
        return answers

    def _entropy(self) -> bytes:
        return self._system.random_bytes(_ENTROPY_BYTES)

    def _wake(self, *peer_ids: str) -> None:
        """Look again when the next canary is due, and which jobs for these hosts may leave."""
        self._changed.set()
        for peer_id in peer_ids:
            for asked, changed in self._waiting.get(peer_id, {}).items():
                if self._is_running and self._plan.leaves_s(peer_id, asked) == math.inf:
                    break  # so do those behind it
                changed.set()


def _request(canary: Canary, messages: Messages, max_output_tokens: int | None = None) -> CanaryRequest:
    return CanaryRequest(
        model_id=canary.shape.model_id,
        messages=messages,
        max_output_tokens=max_output_tokens or canary.shape.max_output_tokens,
        timeout_s=canary.shape.timeout_s,
        parameters=canary.parameters,
    )
