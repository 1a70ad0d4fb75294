"""Checks of hosts' models for an application: canaries among its jobs, in its own sessions, within a budget.

:meth:`hostmesh.sdk.SDK.check_models` opens them. What is sent and when, and what an answer says, is in
:mod:`hostmesh.canaries`; here it is joined with jobs, money and reputation.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from hostmesh.canaries.asking import CanaryAnswer, CanaryRequest, Reference
from hostmesh.canaries.canary import OptedInPrompt
from hostmesh.canaries.canary_store import CanaryStore
from hostmesh.canaries.checker import CanaryChecker
from hostmesh.canaries.conversations import Conversations
from hostmesh.canaries.evidence import MIN_QUORUM, Calibration, CanaryEvidence
from hostmesh.canaries.plan import CanaryPlan, job_seed
from hostmesh.canaries.shipped import shipped_corpus
from hostmesh.canaries.traffic import JobShape
from hostmesh.canary_budget import CanaryBudget
from hostmesh.errors import SessionError, UsageError
from hostmesh.jobs.client import QUOTE_TIMEOUT_S, JobManager
from hostmesh.jobs.client_sessions import OpenSession
from hostmesh.jobs.content import build_input
from hostmesh.jobs.engine import ChatMessage, ChatWork, Engine, Role, TextPiece
from hostmesh.jobs.parameters import check_parameters
from hostmesh.jobs.watch import SEED, Parameters, WatchedJob
from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.evidence import Evidence, EvidenceKind
from hostmesh.reputation.history import HostHistory
from hostmesh.reputation.names import address_of
from hostmesh.system import System

logger = logging.getLogger("hostmesh.canaries")

MAX_SESSIONS = 256
"""Hosts and models whose latest session is remembered, and as many that take no seed."""
MAX_EVIDENCE = 256
_ENTROPY_BYTES = 32

ReferenceModel: TypeAlias = Engine | Callable[[CanaryRequest], Awaitable[str | Sequence[str]]]
"""The client's own engine with the right weights, or a function that asks one: it returns the whole answer, or one of
each setting in which the engine runs."""
_Host: TypeAlias = tuple[PeerId, str]
"""And which of its models."""
Value = TypeVar("Value")


class ModelChecks:
    """Checks of models that are on. Get one from :meth:`hostmesh.SDK.check_models`.

    Args:
        jobs: returns what runs jobs, as long as the node runs.
        reference: see :meth:`hostmesh.SDK.check_models`, as the next ones.
        quorum: open sessions with others.
        calibrations: by model id.
        prompts: the user's own that may go to any host.
        rate: canary conversations for each real one.
        budget: what canaries may cost.
        history: gets evidence.
        store: what is known over a restart.
        system: clocks and random bytes.

    Raises:
        UsageError: both or neither of reference and quorum, or sessions that are no quorum.
    """

    def __init__(
        self,
        *,
        jobs: Callable[[], JobManager],
        reference: ReferenceModel | None,
        quorum: Sequence[OpenSession],
        calibrations: Mapping[str, Calibration],
        prompts: Sequence[OptedInPrompt],
        rate: float,
        budget: CanaryBudget,
        history: HostHistory,
        store: CanaryStore,
        system: System,
    ) -> None:
        if (reference is None) is not bool(quorum):
            raise UsageError("models are checked against a reference or a quorum of sessions, exactly one of them")
        _check_quorum(quorum, budget.currency)
        if not 0.0 < rate <= 1.0:
            raise UsageError("a rate of canaries is more than 0 and at most 1")
        self._jobs = jobs
        self._quorum = tuple(quorum)
        self._calibrations = dict(calibrations)
        self._history = history
        self._system = system
        self.budget = budget
        """What canaries may cost, and did."""
        self._conversations = Conversations(system.random_bytes)
        self._sessions: OrderedDict[_Host, OpenSession] = OrderedDict()
        """The latest that a real job ran in; the least recently used goes first."""
        self._without_seed: OrderedDict[_Host, None] = OrderedDict()
        self._running: dict[WatchedJob, bytes | None] = {}
        """By job, its conversation; None = it is not checked, and seen to come and go only."""
        self._evidence: deque[CanaryEvidence] = deque(maxlen=MAX_EVIDENCE)
        self._sent = 0
        self._has_warned = False
        self._checker = CanaryChecker(
            CanaryPlan(
                shipped_corpus(), rate=rate, opted_in=prompts, sent=store.sent(), open_words_only=bool(self._quorum)
            ),
            run_job=self._run_canary,
            reference=None if reference is None else _reference(reference),
            quorum=self._others if self._quorum else None,
            calibrations=self._calibrations,
            book=self,
            system=system,
            store=store,
        )

    # --- what an application sees ---

    @property
    def sent(self) -> int:
        """Jobs that were sent as canaries, those to a quorum among them."""
        return self._sent

    @property
    def evidence(self) -> tuple[CanaryEvidence, ...]:
        """What was found, the oldest first: the latest :data:`MAX_EVIDENCE`. It is in the reputations already."""
        return tuple(self._evidence)

    @property
    def unchecked(self) -> tuple[tuple[PeerId, str], ...]:
        """Hosts with a model of theirs that is to be checked and is not.

        It takes no ``seed``, so that nothing can be compared; or its latest canary could have cost more than may be
        spent on it, such as by a long limit of the host's own: set ``max_output_tokens``, or a larger budget; or its
        latest eight canaries were refused, failed or not answered, and a host may do that to canaries alone.
        """
        others = (*self._checker.unaffordable, *self._checker.unanswered)
        return tuple(dict.fromkeys((*self._without_seed, *((PeerId(peer_id), model) for peer_id, model in others))))

    @property
    def stopped(self) -> str:
        """Why no canary is sent any more: BUDGET_USED, PROMPTS_USED (65,536 of all runs); empty = they are."""
        if self.budget.is_used:
            return "BUDGET_USED"
        return "PROMPTS_USED" if self._checker.is_exhausted else ""

    # --- of the SDK ---

    async def run(self) -> None:
        """Send canaries until they are stopped. Cancellation: safe; those under way are cancelled."""
        await self._checker.run()

    # --- hostmesh.jobs.watch.JobWatch ---

    async def leaves(self, job: WatchedJob) -> Parameters:
        """Wait until a real job tells no canary, and note it; return its parameters with a seed. Cancellation: safe."""
        host = (job.session.peer_id, job.session.model_id)
        turns = [(message.role, message.content) for message in job.chat.messages]
        is_paid_alike = job.session.currency == self.budget.currency
        is_checked = host[1] in self._calibrations and host not in self._without_seed and is_paid_alike
        conversation = self._conversations.of(host[0], turns) if is_checked else None
        asked = await self._checker.may_leave(host[0], conversation, timeout_s=job.timeout_s)
        self._running[job] = conversation
        if conversation is None:
            self._checker.other_job_started(host[0], asked=asked)
            return job.parameters
        system_prompt = turns[0][1] if turns[0][0] == Role.SYSTEM.value else None
        if self._quorum and system_prompt is not None and not self._has_warned:
            self._has_warned = True
            logger.warning("jobs with a system prompt are not copied: a quorum hears nothing of it; use a reference")
        _note(self._sessions, host, job.session)
        shape = JobShape(
            length_bytes=len(turns[-1][1].encode()),
            max_output_tokens=job.max_output_tokens,
            parameters=tuple((name, value) for name, value in job.parameters.items()),
            timeout_s=job.timeout_s,
        )
        self._checker.job_started(*host, conversation, shape, asked=asked, system_prompt=system_prompt)
        if SEED in job.parameters:
            return job.parameters
        # Last, where a canary has it.
        return {**job.parameters, SEED: job_seed(self._system.random_bytes(_ENTROPY_BYTES))}

    def job_ended(self, job: WatchedJob) -> None:
        """Note that a real job is over."""
        conversation = self._running.pop(job)
        if conversation is None:
            self._checker.other_job_ended(job.session.peer_id)
            return
        self._checker.job_ended(job.session.peer_id, job.session.model_id, conversation)

    def seed_refused(self, job: WatchedJob) -> None:
        """Note a model that cannot be checked."""
        host = (job.session.peer_id, job.session.model_id)
        _note(self._without_seed, host, None)
        logger.warning("a model takes no seed, and is not checked", extra={"peer_id": host[0], "model_id": host[1]})

    # --- hostmesh.canaries.asking.EvidenceBook ---

    def record_canaries(self, evidence: CanaryEvidence) -> None:
        """Take the evidence of one window to the reputations. Raises StoreError."""
        self._evidence.append(evidence)
        kind = EvidenceKind.CANARY_FAILED if evidence.speaks_against else EvidenceKind.CANARY_PASSED
        peer_id = PeerId(evidence.peer_id)
        told = Evidence(
            kind=kind,
            detail=evidence.explain(),
            false_positive_ppm=evidence.false_positive_ppm,
            answers=max(1, evidence.n),
        )
        self._history.record(peer_id, evidence.operator, told)
        if evidence.speaks_against:
            logger.warning("%s", evidence.explain(), extra={"peer_id": peer_id, "model_id": evidence.model_id})

    # --- inside ---

    async def _run_canary(self, peer_id: str, request: CanaryRequest) -> CanaryAnswer:
        """Run a canary as a real job is run: the same calls, in the session of the latest one.

        It asks for its own quote, so as to know its price beforehand; a real job's is asked for by ``run``. To the host
        both are one call after the other.
        """
        session = self._session_of(PeerId(peer_id), request.model_id)
        jobs = self._jobs()
        messages = [{"role": role, "content": text} for role, text in request.messages]
        began_s = self._system.monotonic_s()
        offer = await jobs.request_quote(
            session.peer_id,
            session.model_id,
            parameters=request.parameters,
            max_output_tokens=request.max_output_tokens,
            max_price_micros_per_mtok=session.max_price_micros_per_mtok,
            currency=session.currency,
            timeout_s=min(QUOTE_TIMEOUT_S, request.timeout_s or QUOTE_TIMEOUT_S),
            operator=session.authorization.operator,
        )
        left_s = None if request.timeout_s is None else request.timeout_s - (self._system.monotonic_s() - began_s)
        with self.budget.reserved(build_input(messages=messages), offer, stop=self._checker.stop) as reserved:
            self._sent += 1
            async with jobs.run(
                session, messages=messages, parameters=request.parameters, timeout_s=left_s, quote=offer
            ) as job:
                text = await job.read_text()
            reserved.cost(job.usage.cost_micros)
        return CanaryAnswer(
            text=text,
            max_output_tokens=offer.max_output_tokens,
            operator=address_of(session.authorization.operator),
        )

    def _session_of(self, peer_id: PeerId, model_id: str) -> OpenSession:
        own = self._sessions.get((peer_id, model_id))
        for session in (own, *self._quorum):
            if session is None or session.is_closed:
                continue
            if (session.peer_id, session.model_id) == (peer_id, model_id):
                return session
        raise SessionError("no session with the host is open", reason="SESSION_CLOSED")

    def _others(self, peer_id: str, model_id: str) -> list[str]:
        own = self._sessions.get((PeerId(peer_id), model_id))
        operator = None if own is None else own.authorization.operator
        return [
            session.peer_id
            for session in self._quorum
            if session.model_id == model_id and session.authorization.operator != operator and not session.is_closed
        ]


def _check_quorum(sessions: Sequence[OpenSession], currency: str) -> None:
    if not sessions:
        return
    operators = {session.authorization.operator for session in sessions}
    is_alike = len({one.model_id for one in sessions}) == 1 and {one.currency for one in sessions} == {currency}
    if len(sessions) < MIN_QUORUM or len(operators) < len(sessions) or not is_alike:
        raise UsageError(
            f"a quorum is {MIN_QUORUM} sessions or more for one model, in one currency, each of another operator",
            remedy="open them on what find_hosts(..., diversity=...) returns",
        )


def _note(table: OrderedDict[_Host, Value], key: _Host, value: Value) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > MAX_SESSIONS:
        table.popitem(last=False)


def _reference(given: ReferenceModel) -> Reference:
    if callable(given):
        ask = given
    else:
        engine = given

        async def ask(request: CanaryRequest) -> str:
            work = ChatWork(
                model_id=request.model_id,
                messages=tuple(ChatMessage(role=Role(role), content=text) for role, text in request.messages),
                max_output_tokens=request.max_output_tokens or 1,
                parameters=check_parameters(request.parameters),
            )
            async with engine.generate(work) as events:
                return "".join([event.text async for event in events if isinstance(event, TextPiece)])

    async def answers(request: CanaryRequest) -> Sequence[str]:
        said = await ask(request)
        return [said] if isinstance(said, str) else said

    return answers
