"""One job from session to usage, with what each step took."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from hostmesh.cli.terminal import escape

if TYPE_CHECKING:
    from hostmesh.discovery.choice import HostChoice
    from hostmesh.jobs.usage import Usage
    from hostmesh.sdk import SDK


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReport:
    """An answer and what it took."""

    text: str
    usage: Usage
    finish_reason: str
    timings_ms: Mapping[str, float]
    """Since the begin: ``session`` open, job ``accepted``, ``first_token``, whole ``answer``."""

    def to_dict(self) -> dict[str, object]:
        """Return what ``--json`` prints. The text is raw."""
        return {
            "answer": self.text,
            "usage": {
                "prompt_tokens": self.usage.prompt_tokens,
                "completion_tokens": self.usage.completion_tokens,
                "cost_micros": self.usage.cost_micros,
                "currency": self.usage.currency,
            },
            "finish_reason": self.finish_reason,
            "timings_ms": dict(self.timings_ms),
        }


class AnswerWriter:
    """Writes an answer on standard output as it comes, harmless to a terminal. What follows starts on a new line.

    Args:
        is_quiet: write nothing.
    """

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._is_quiet = is_quiet
        self._is_mid_line = False

    def show(self, text: str) -> None:
        """Write a piece, at once."""
        if text and not self._is_quiet:
            sys.stdout.write(escape(text, keep_layout=True))
            sys.stdout.flush()
            self._is_mid_line = not text.endswith("\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._is_mid_line and not isinstance(error, BrokenPipeError):
            print(flush=True)


async def answer(
    sdk: SDK,
    choice: HostChoice,
    *,
    prompt: str,
    system_prompt: str | None,
    parameters: Mapping[str, object],
    max_output_tokens: int | None,
    spending_limit_micros: int,
    timeout_s: float | None,
    writer: AnswerWriter,
    slice_micros: int | None = None,
) -> AnswerReport:
    """Open a session on a host and run one prompt.

    ``writer`` shows the answer as it comes; the rest is as the session and job managers take it.

    Raises:
        SessionError, JobError, TransportError, RemoteProtocolError: see the managers.

    Cancellation: the job stops on the host, and the session is closed.
    """
    began = time.monotonic()
    timings: dict[str, float] = {}

    def took(step: str) -> None:
        timings[step] = round((time.monotonic() - began) * 1000, 1)

    pieces: list[str] = []
    sessions, jobs = sdk.get_session_manager(), sdk.get_job_manager()
    async with sessions.open_session(
        choice, spending_limit_micros=spending_limit_micros, slice_micros=slice_micros
    ) as session:
        took("session")
        async with jobs.run(
            session,
            prompt=prompt,
            system_prompt=system_prompt,
            parameters=parameters,
            max_output_tokens=max_output_tokens,
            timeout_s=timeout_s,
        ) as job:
            took("accepted")
            with writer:
                async for delta in job:
                    if not pieces:
                        took("first_token")
                    pieces.append(delta.text)
                    writer.show(delta.text)
            took("answer")
            return AnswerReport(
                text="".join(pieces), usage=job.usage, finish_reason=job.finish_reason.value, timings_ms=timings
            )


def print_report(report: AnswerReport) -> None:
    """Print on standard error what an answer used."""
    usage = report.usage
    print(
        f"{usage.prompt_tokens} + {usage.completion_tokens} tokens, {usage.cost_micros} micro-{usage.currency}, "
        f"{report.finish_reason}, first token after {report.timings_ms.get('first_token', 0):.0f} ms, "
        f"all after {report.timings_ms['answer']:.0f} ms",
        file=sys.stderr,
    )
