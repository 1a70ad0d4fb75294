"""A user whose jobs a plan sees, and who takes its canaries, on a clock of its own."""

from __future__ import annotations

import math
import random

from hostmesh.canaries.canary import Canary
from hostmesh.canaries.plan import CanaryPlan
from hostmesh.canaries.rhythm import Asked
from hostmesh.canaries.shipped import shipped_corpus
from hostmesh.canaries.traffic import JobShape


class Client:
    """Feeds a plan with real jobs and takes its canaries."""

    def __init__(self, seed: int = 1, **options: object) -> None:
        self.random = random.Random(seed)
        self.plan = CanaryPlan(shipped_corpus(), **{"rate": 1.0, **options})  # type: ignore[arg-type]
        self.now_s = 0.0
        self.real: list[tuple[str, JobShape]] = []
        self.canaries: list[Canary] = []
        self.answers = True
        """Canaries, a second after they came."""

    def entropy(self) -> bytes:
        return self.random.randbytes(32)

    def job(self, peer_id: str, shape: JobShape, *, turns: int = 1, system_prompt: str | None = None) -> None:
        """Run a real conversation, then whatever canaries are due before the next."""
        key = self.random.randbytes(8)
        for _ in range(turns):
            self.leave(peer_id, key, shape, system_prompt=system_prompt)
            self.now_s += 1.0
            self.end(peer_id, key)
            self.now_s += 1.5
        until = self.now_s + self.random.uniform(5.0, 50.0)
        while (due := self.plan.next_due()) is not None and due[0] <= until:
            self.canary()
        self.now_s = max(self.now_s, until)

    def ask(self, peer_id: str, key: bytes) -> Asked:
        return self.plan.job_asked(peer_id, key, now_s=self.now_s, entropy=self.entropy())

    def leave(self, peer_id: str, key: bytes, shape: JobShape, *, system_prompt: str | None = None) -> None:
        """Ask for a real job, take the canaries that go before it, and let it leave."""
        asked = self.ask(peer_id, key)
        while True:
            leaves_s, due = self.plan.leaves_s(peer_id, asked), self.plan.next_due()
            if due is None or due[0] > max(leaves_s, self.now_s):
                break
            self.canary()
        assert leaves_s < math.inf, "it waits for what never comes"
        self.now_s = max(self.now_s, leaves_s)
        self.start(peer_id, key, shape, asked, system_prompt=system_prompt)

    def start(
        self, peer_id: str, key: bytes, shape: JobShape, asked: Asked, *, system_prompt: str | None = None
    ) -> None:
        self.real.append((peer_id, shape))
        self.plan.job_started(
            peer_id, key, shape, asked=asked, now_s=self.now_s, entropy=self.entropy(), system_prompt=system_prompt
        )

    def end(self, peer_id: str, key: bytes) -> None:
        self.plan.job_ended(peer_id, key, now_s=self.now_s, entropy=self.entropy())

    def make(self) -> Canary | None:
        """Take the canary that is due next, if it is one."""
        due = self.plan.next_due()
        assert due is not None
        self.now_s = max(self.now_s, due[0])
        return self.plan.make(due[1], now_s=self.now_s, entropy=self.entropy())

    def canary(self) -> None:
        """Take the canary that is due next, if it is one."""
        canary = self.make()
        if canary is None:
            return
        self.canaries.append(canary)
        if self.answers:
            self.now_s += 1.0
            self.answer(canary, f"An answer of {canary.peer_id}.")

    def answer(self, canary: Canary, text: str) -> None:
        self.plan.answered(canary, text, now_s=self.now_s, entropy=self.entropy())

    def fail(self, canary: Canary) -> None:
        self.plan.failed(canary, now_s=self.now_s, entropy=self.entropy())


def with_a_canary(
    *, turns: int = 1, pause_s: float = 0.05, overlapping: bool = False, rate: float = 0.05, seed: int = 1
) -> tuple[Client, Canary, Asked]:
    """Return a client with a canary that runs, and a real job that is asked for meanwhile.

    By default hardly any canary follows another one.
    """
    client = Client(seed=seed, rate=rate)
    shape = JobShape(length_bytes=40, max_output_tokens=8)
    for number in range(2000):
        key = number.to_bytes(2, "big")
        for _ in range(turns):
            asked = client.ask("host", key)
            due = client.plan.next_due()
            if due is not None and due[0] == client.now_s:
                canary = client.make()
                assert canary is not None
                return client, canary, asked
            client.now_s = max(client.now_s, client.plan.leaves_s("host", asked))
            client.start("host", key, shape, asked)
            client.now_s += 0.5 if overlapping else 1.0
            if not overlapping:
                client.end("host", key)
            client.now_s += pause_s
        until_s = client.now_s + (0.0 if pause_s < 1.0 else client.random.uniform(1000.0, 3000.0))
        due = client.plan.next_due()
        if due is not None and client.now_s <= due[0] < until_s:
            canary = client.make()
            assert canary is not None
            return client, canary, client.ask("host", b"next")
        client.now_s = until_s
    raise AssertionError("no canary was due")
