"""What an application turns checks of hosts' models on with; the rest is :class:`hostmesh.sdk.SDK`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from hostmesh.application import ApplicationDoor
from hostmesh.canaries.canary import OptedInPrompt
from hostmesh.canaries.evidence import Calibration
from hostmesh.canaries.plan import DEFAULT_RATE
from hostmesh.canaries.shipped import shipped_calibrations
from hostmesh.canary_budget import CanaryBudget
from hostmesh.data_files import DataFiles
from hostmesh.errors import UsageError
from hostmesh.jobs.client import JobManager
from hostmesh.model_checks import ModelChecks, ReferenceModel
from hostmesh.nursery import open_own_nursery
from hostmesh.reputation.history import HostHistory
from hostmesh.sessions.session import Session
from hostmesh.system import System


class ModelCheckDoor(ApplicationDoor, ABC):
    """Checks of models, one at a time."""

    def __init__(self, files: DataFiles, system: System) -> None:
        super().__init__()
        self._files = files
        self._system = system
        self._checks: ModelChecks | None = None
        """As long as they are on."""

    @abstractmethod
    def get_job_manager(self) -> JobManager:
        """Return what runs jobs on hosts."""

    @asynccontextmanager
    async def check_models(
        self,
        *,
        budget_micros: int,
        currency: str,
        reference: ReferenceModel | None = None,
        quorum: Sequence[Session] = (),
        calibrations: Mapping[str, Calibration] | None = None,
        prompts: Sequence[OptedInPrompt] = (),
        rate: float = DEFAULT_RATE,
    ) -> AsyncIterator[ModelChecks]:
        """Check for the life of the block which models hosts run: with canaries among this SDK's own jobs.

        Every job of a model that is checked carries a random ``seed``, where the caller sets none. A host gets canaries
        after its first 32 jobs, in the session of its latest one. What is found goes into its reputation. Jobs
        make way for canaries: where they come one after the other, or as many at once as a program has workers, the one
        whose place a canary takes waits for its end, at most for 120 s; bursts are later by 2 s at most; none waits for
        longer than half of its ``timeout_s``.

        Args:
            budget_micros: most that canaries of this block may cost; sessions and their limits pay for them.
            currency: of the budget; sessions in another one get no canaries.
            reference: an engine of your own with the right weights; a function that asks one. It gets the system
                prompts of the jobs that are copied, and the host's answers: if it is remote, whoever runs it reads
                them. Or else:
            quorum: three open sessions or more for one model, each of another operator; they get canaries, too. Jobs
                with a system prompt are not copied then.
            calibrations: the models to check, by the id that hosts offer them under; None = those that are shipped.
            prompts: of your own, which may then go to any host, and are sent before those that are shipped.
            rate: canary conversations for each real one, > 0 and <= 1.

        Yields:
            The checks. Leaving the block cancels the canaries under way.

        Raises:
            UsageError: checks are on already, or contradicting arguments.
            NotAuthenticatedError, NodeNotRunningError: as :meth:`get_job_manager`.
            StoreError: what earlier runs left cannot be read.
        """
        self.get_job_manager()
        if self._checks is not None:
            raise UsageError("models are checked already")
        checks = ModelChecks(
            jobs=self.get_job_manager,
            reference=reference,
            quorum=quorum,
            calibrations=shipped_calibrations() if calibrations is None else calibrations,
            prompts=prompts,
            rate=rate,
            budget=CanaryBudget(budget_micros, currency),
            history=HostHistory(self._files.reputation, self._files.standings),
            store=self._files.canaries,
            system=self._system,
        )
        async with open_own_nursery() as nursery:
            nursery.start_soon(checks.run)
            self._checks = checks
            try:
                yield checks
            finally:
                self._checks = None
