"""Hosts that answer canaries as they like, on virtual time, and a user's jobs at them."""

from __future__ import annotations

import hashlib
import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import trio

from hostmesh.canaries.asking import CanaryAnswer, CanaryRequest
from hostmesh.canaries.canary_store import CanaryStore
from hostmesh.canaries.checker import CanaryChecker
from hostmesh.canaries.comparison import Agreement
from hostmesh.canaries.evidence import Calibration, CanaryEvidence, Warmth
from hostmesh.canaries.plan import CanaryPlan
from hostmesh.canaries.shipped import shipped_corpus
from hostmesh.canaries.traffic import JobShape
from hostmesh.errors import BudgetExceededError, JobError
from hostmesh.system import System

MODEL = "smollm2"
WALLET = "0x" + "a" * 40


def answer_of(model: str, request: CanaryRequest) -> str:
    """Return a model's answer: the same for the same request, and 80 characters of which models share none."""
    digest = hashlib.sha256(f"{model}{request.messages}{request.parameters}".encode()).hexdigest()
    return f"{digest}{digest}"[:80]


class World:
    """Hosts that run models, the client's reference, and what they were asked."""

    def __init__(self, models: dict[str, str], *, duration_s: float = 1.0) -> None:
        self.models = models
        self.duration_s = duration_s
        self.asked: list[tuple[str, CanaryRequest, float]] = []
        self.evidence: list[CanaryEvidence] = []
        self.under_way = 0
        self.most_under_way = 0
        self.reference_asked: list[CanaryRequest] = []
        self.busy = trio.Event()
        self.failing: set[str] = set()
        self.hanging: set[str] = set()
        self.too_dear: set[str] = set()
        self.ended_s: defaultdict[str, list[float]] = defaultdict(list)
        self.operator = WALLET
        seen = [Agreement(characters=80, parted=False)] * 50 + [Agreement(characters=30, parted=True)] * 10
        self.calibration = Calibration(model_id=MODEL, engines={"another": dict.fromkeys(Warmth, seen)})

    async def run_job(self, peer_id: str, request: CanaryRequest) -> CanaryAnswer:
        self.asked.append((peer_id, request, trio.current_time()))
        self.under_way += 1
        self.busy.set()
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await trio.sleep(math.inf if peer_id in self.hanging else self.duration_s)
        finally:
            self.under_way -= 1
            self.ended_s[peer_id].append(trio.current_time())
        if peer_id in self.too_dear:
            raise BudgetExceededError(
                "too dear", currency="USD", limit_micros=1, spent_micros=0, open_micros=0, needed_micros=2
            )
        if peer_id in self.failing:
            raise JobError("the host failed", reason="ENGINE_FAILED")
        return CanaryAnswer(text=answer_of(self.models[peer_id], request), max_output_tokens=64, operator=self.operator)

    async def __call__(self, request: CanaryRequest) -> Sequence[str]:
        """The reference, in two settings."""
        self.reference_asked.append(request)
        await trio.sleep(0.1)
        return [answer_of("true, another way", request), answer_of("true", request)]

    def record_canaries(self, evidence: CanaryEvidence) -> None:
        self.evidence.append(evidence)


def checker(
    world: World,
    *,
    quorum: Sequence[str] | None = None,
    rate: float = 1.0,
    seed: int = 1,
    plan: CanaryPlan | None = None,
    store: CanaryStore | None = None,
) -> CanaryChecker:
    source = random.Random(seed)
    plan = plan or CanaryPlan(shipped_corpus(), rate=rate, open_words_only=quorum is not None)
    return CanaryChecker(
        plan,
        run_job=world.run_job,
        reference=world if quorum is None else None,
        calibrations={name: replace(world.calibration, model_id=name) for name in (MODEL, "model 0", "model 1")},
        quorum=None if quorum is None else lambda peer_id, model_id: quorum,
        book=world,
        system=System(monotonic_s=trio.current_time, random_bytes=source.randbytes, unix_s=trio.current_time),
        store=store,
    )


async def use(
    checking: CanaryChecker,
    peer_id: str,
    jobs: int,
    *,
    seed: int = 1,
    system_prompt: str | None = None,
    model_id: str = MODEL,
    duration_s: float = 1.0,
) -> list[float]:
    """Send real jobs, one after the other, with pauses, and return how long each waited before it left."""
    source = random.Random(seed)
    waits_s = []
    for number in range(jobs):
        key = f"{seed}-{number}".encode()
        shape = JobShape(length_bytes=40, max_output_tokens=64, parameters=(("temperature", 0.0),))
        asked = await checking.may_leave(peer_id, key, timeout_s=None)
        waits_s.append(trio.current_time() - asked.asked_s)
        checking.job_started(peer_id, model_id, key, shape, asked=asked, system_prompt=system_prompt)
        await trio.sleep(duration_s)
        checking.job_ended(peer_id, model_id, key)
        await trio.sleep(source.uniform(5.0, 60.0))
    return waits_s


async def run(checking: CanaryChecker, *users: tuple[str, int], system_prompt: str | None = None) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checking.run)
        async with trio.open_nursery() as traffic:
            for place, (peer_id, jobs) in enumerate(users):
                with_prompt = {"seed": place, "system_prompt": system_prompt}
                traffic.start_soon(lambda p=peer_id, j=jobs, o=with_prompt: use(checking, p, j, **o))
        nursery.cancel_scope.cancel()


async def run_alone(checking: CanaryChecker, peer_id: str, jobs: int, *, seed: int) -> None:
    """Check for the life of a user's jobs."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checking.run)
        await use(checking, peer_id, jobs, seed=seed)
        nursery.cancel_scope.cancel()
