"""A client of a :class:`MeshWorld`: finds hosts, runs jobs on them, and watches them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, AsyncExitStack

import trio

from hostmesh.discovery.choice import HostChoice
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.errors import TransportError
from hostmesh.jobs.offer import QuoteOffer
from hostmesh.net.peer_id import PeerId
from hostmesh.sdk import SDK
from hostmesh.sessions.session import Session
from hostmesh.testing.mesh_account import Call, MeshAccount, Submission, prompt_of
from hostmesh.testing.mesh_program import MODEL, MeshProgram
from hostmesh.testing.mesh_steps import Find, RunJob, Watch

CRITERIA = HostCriteria(required_models=[MODEL])
TRY_AGAIN_S = (0.2, 2.0, 10.0)
"""Where the path failed, a submission is made again after each of these, under one quote."""
_GRACE_S = 3.0
"""Beside a call's own time limit: closing a stream takes at most 2 s."""
_SESSION_TIMEOUT_S = 10.0
_QUOTE_TIMEOUT_S = 10.0
_WATCH_TIMEOUT_S = 10.0
_WATCH_AGAIN_S = 2.0
_SPENDING_LIMIT_MICROS = 10**9
_MAX_MESSAGE_BYTES = 200_000
"""A host takes 256 KiB."""


class MeshClient:
    """What the program of a client does.

    Args:
        account: told of every call.
        next_number: gives each submission its own.
    """

    def __init__(self, account: MeshAccount, *, next_number: Callable[[], int]) -> None:
        self.node: MeshProgram
        """Its program; set by who makes it."""
        self._account = account
        self._next_number = next_number

    async def find(self, step: Find, *, is_final: bool = False) -> HostChoice | None:
        """Look for a host."""
        sdk = self._sdk()
        with self._call("find", step.timeout_s, is_final=is_final) as call:
            call.choice = await sdk.get_discovery_manager().find_host(CRITERIA, timeout_s=step.timeout_s)
        return call.choice

    async def run_job(self, step: RunJob, *, is_final: bool = False) -> None:
        """Find a host and run a job there, again under the same quote where the path failed."""
        sdk = self._sdk()
        choice = await self.find(Find(machine=step.machine, at_s=step.at_s), is_final=is_final)
        if choice is None:
            return
        number = self._next_number()
        prompt = prompt_of(number, words=step.words, word_bytes=step.word_bytes)
        submission = Submission(number=number, machine=self.node.name, prompt=prompt)
        self._account.submissions.append(submission)
        try:
            async with AsyncExitStack() as stack:
                session: Session | None = None
                with self._call("open_session", _SESSION_TIMEOUT_S, is_final=is_final):
                    session = await stack.enter_async_context(
                        sdk.get_session_manager().open_session(
                            choice, spending_limit_micros=_SPENDING_LIMIT_MICROS, timeout_s=_SESSION_TIMEOUT_S
                        )
                    )
                if session is not None:
                    await self._submit(sdk, session, step, submission, is_final=is_final)
        finally:
            submission.ended_s = trio.current_time()

    async def _submit(
        self, sdk: SDK, session: Session, step: RunJob, submission: Submission, *, is_final: bool
    ) -> None:
        quote: QuoteOffer | None = None
        with self._call("request_quote", _QUOTE_TIMEOUT_S, is_final=is_final):
            quote = await sdk.get_job_manager().request_quote(
                session.peer_id, session.model_id, timeout_s=_QUOTE_TIMEOUT_S
            )
        if quote is None:
            return
        for pause_s in (*TRY_AGAIN_S, None):
            with self._call("job", None, is_final=is_final) as call:
                call.number = submission.number
                # A time limit runs only while the job is waited for: reading slowly may take longer.
                if step.timeout_s is not None and not step.read_every_s:
                    call.due_s = call.began_s + step.timeout_s + _GRACE_S
                await self._run(sdk, session, quote, step, submission.prompt, call)
            if pause_s is None or not step.repeats or not isinstance(call.error, TransportError):
                return
            await trio.sleep(pause_s)

    async def _run(self, sdk: SDK, session: Session, quote: QuoteOffer, step: RunJob, prompt: str, call: Call) -> None:
        padding = ["." * size for size in _sizes(step.prompt_bytes)]
        messages = [{"role": "user", "content": text} for text in (*padding, prompt)]
        async with sdk.get_job_manager().run(session, messages=messages, timeout_s=step.timeout_s, quote=quote) as job:
            with trio.CancelScope() as patience:
                if step.leave_after_s is not None:
                    patience.deadline = trio.current_time() + step.leave_after_s
                async for piece in job:
                    call.text += piece.text
                    if step.read_every_s:
                        await trio.sleep(step.read_every_s)
            if job.is_done:
                call.usage = job.usage

    async def watch(self, step: Watch, host_id: PeerId) -> None:
        """Watch a host, again whenever the watch is lost, until cancelled."""
        while True:
            client = self._sdk().get_status_client()
            with self._account.call("watch", self.node.name) as call:
                call.host = step.host
                async with client.watch_status(host_id, 0.1, timeout_s=_WATCH_TIMEOUT_S) as watch:
                    async for status in watch:
                        call.status = status
            await trio.sleep(_WATCH_AGAIN_S)

    def _call(self, what: str, timeout_s: float | None, *, is_final: bool) -> AbstractContextManager[Call]:
        within_s = None if timeout_s is None else timeout_s + _GRACE_S
        return self._account.call(what, self.node.name, within_s=within_s, is_final=is_final)

    def _sdk(self) -> SDK:
        assert self.node.sdk is not None, "it is asked only while it runs"
        return self.node.sdk


def _sizes(size: int) -> list[int]:
    """Cut a size into those of messages."""
    return [min(_MAX_MESSAGE_BYTES, size - start) for start in range(0, size, _MAX_MESSAGE_BYTES)]
