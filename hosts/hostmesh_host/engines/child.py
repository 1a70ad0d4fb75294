"""An engine in a child process: started, watched, restarted, stopped.

The child gets its options, a fresh random key among them, on standard input and says on standard output where it
listens (see :mod:`hostmesh_host.engines.child_main`). It ends with this process, however that ends. A child that dies
is started again after a pause that doubles; until then its models are not ready.

States: starting -> ready -> (died -> waiting -> starting ...) -> stopped.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from hostmesh import EngineEvent, ModelInfo, ModelKind, Work
from hostmesh.errors import ConfigError, EngineError, ModelNotReadyError
from hostmesh.system import System
from hostmesh_host.engines.dialect import PARAMETERS, Dialect
from hostmesh_host.engines.endpoint import Endpoint, check_engine_url
from hostmesh_host.engines.http import EngineHttp, EngineTimeouts, open_http
from hostmesh_host.engines.openai import OpenAIEngine

if TYPE_CHECKING:
    from trio_typing import TaskStatus

logger = logging.getLogger("hostmesh_host.engine")

KEY_BYTES = 32
MAX_ANSWER_BYTES = 64 * 1024
MAX_STDERR_LINES = 50
MAX_STDERR_LINE_BYTES = 500
EXIT_TIMEOUT_S = 2.0
"""How long a child may take to end by itself before it is killed."""
_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 30.0
_HEALTHY_S = 60.0
"""A child that lived this long starts with the shortest pause again."""

_ENVIRONMENT = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
)
"""What a child gets of the environment; a wallet's password, for one, is not its business."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """Which engine to start."""

    name: str
    module: str
    """Run by ``python -m``."""
    dialect: Dialect
    options: Mapping[str, object] = field(default_factory=dict)
    """What its ``start`` takes, without the key."""
    start_timeout_s: float = 120.0


class ChildEngine:
    """An :class:`hostmesh.Engine` whose process this one owns.

    Use: ``await nursery.start(engine.run)``. The engine lives until :meth:`stop` or the cancellation of ``run``.
    """

    def __init__(
        self, spec: ChildSpec, *, system: System | None = None, timeouts: EngineTimeouts | None = None
    ) -> None:
        self._spec = spec
        self._system = system or System()
        self._timeouts = timeouts
        self._engine: OpenAIEngine | None = None
        self._endpoint: Endpoint | None = None
        self._pid: int | None = None
        self._starts = 0
        self._changed = trio.Event()
        self._is_loading = trio.Event()
        self._scope: trio.CancelScope | None = None
        self._ended = trio.Event()

    @property
    def pid(self) -> int | None:
        """The child that serves now; None = none is ready."""
        return self._pid

    @property
    def starts(self) -> int:
        """How often a child became ready."""
        return self._starts

    @property
    def endpoint(self) -> Endpoint:
        """Where the child listens now.

        Raises:
            ModelNotReadyError: no child is ready.
        """
        if self._endpoint is None:
            raise ModelNotReadyError(f"the engine {self._spec.name} is starting", remedy="wait until it has loaded")
        return self._endpoint

    async def wait_loading(self) -> None:
        """Wait until the first child has its options and loads by itself. Cancellation: safe."""
        await self._is_loading.wait()

    async def wait_change(self) -> None:
        """Wait until the child becomes ready or ends. Cancellation: safe."""
        await self._changed.wait()

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the child, again and again; started once it is ready for the first time.

        Raises:
            EngineError: the first start failed. A later failure is logged and tried again.

        Cancellation: the way to end it; the child is ended and awaited, shielded for at most two seconds.
        """
        pause_s = _FIRST_PAUSE_S
        try:
            async with open_http(lambda: self.endpoint, timeouts=self._timeouts) as http:
                with trio.CancelScope() as self._scope:
                    while True:
                        began_s = trio.current_time()
                        try:
                            await self._live(http, task_status)
                        except EngineError as error:
                            if self._engine is None:
                                raise
                            logger.warning("engine %s did not start again: %s", self._spec.name, error.message)
                        if trio.current_time() - began_s >= _HEALTHY_S:
                            pause_s = _FIRST_PAUSE_S
                        await trio.sleep(pause_s)
                        pause_s = min(2 * pause_s, _MAX_PAUSE_S)
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """End the child and ``run``; returns when both are gone. Idempotent. Cancellation: safe."""
        if self._scope is None:
            return
        self._scope.cancel()
        await self._ended.wait()

    def models(self) -> tuple[ModelInfo, ...]:
        """Return the models."""
        return self._ready_engine().models()

    async def ready(self) -> Mapping[str, bool]:
        """Ask the child. Cancellation: safe."""
        return await self._ready_engine().ready()

    def generate(self, work: Work) -> AbstractAsyncContextManager[AsyncIterator[EngineEvent]]:
        """Start the work in the child."""
        return self._ready_engine().generate(work)

    async def count_prompt_tokens(self, work: Work) -> int | None:
        """Ask the child's tokenizer. Cancellation: safe."""
        return await self._ready_engine().count_prompt_tokens(work)

    def _ready_engine(self) -> OpenAIEngine:
        if self._engine is None:
            raise ModelNotReadyError(f"the engine {self._spec.name} was not started", remedy="start it first")
        return self._engine

    async def _live(self, http: EngineHttp, task_status: TaskStatus[None]) -> None:
        """Run one child from its start to its end."""
        key = self._system.random_bytes(KEY_BYTES).hex()
        process = _Process(self._spec)
        try:
            await process.write_options({**self._spec.options, "api_key": key})
            self._is_loading.set()
            with trio.move_on_after(self._spec.start_timeout_s) as patience:
                answer = await process.read_answer()
            if patience.cancelled_caught:
                raise EngineError(f"the engine {self._spec.name} did not load in {self._spec.start_timeout_s:g} s")
            url = answer.get("url")
            self._endpoint = Endpoint(base_url=_own_url(url), api_key=key)
            await http.ask("/health")
            models = _read_models(answer, self._spec)
            first = self._engine is None
            self._engine = OpenAIEngine(http=http, models=models, dialect=self._spec.dialect)
            self._pid = process.pid
            self._starts += 1
            self._announce_change()
            logger.info("engine %s is ready", self._spec.name, extra={"pid": process.pid})
            if first:
                task_status.started()
            status = await process.wait()
            logger.warning("engine %s ended (%s); starting it again: %s", self._spec.name, status, process.last_words())
        finally:
            self._endpoint = None
            self._pid = None
            await process.end()
            self._announce_change()

    def _announce_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class _Process:
    """One child process and its three pipes."""

    def __init__(self, spec: ChildSpec) -> None:
        self._name = spec.name
        stdin_read, stdin_write = os.pipe()
        stdout_read, stdout_write = os.pipe()
        stderr_read, stderr_write = os.pipe()
        try:
            # On this thread and not on a worker's: Linux kills the child when the thread that started it ends.
            self._popen = subprocess.Popen(  # noqa: S603 - our own module, no shell
                [sys.executable, "-P", "-m", spec.module],
                stdin=stdin_read,
                stdout=stdout_write,
                stderr=stderr_write,
                env={name: value for name, value in os.environ.items() if name in _ENVIRONMENT},
                process_group=0,
            )
        except OSError as error:
            for descriptor in (stdin_write, stdout_read, stderr_read):
                os.close(descriptor)
            raise EngineError(f"the engine {spec.name} cannot be started: {error.strerror}") from error
        finally:
            for descriptor in (stdin_read, stdout_write, stderr_write):
                os.close(descriptor)
        self._stdin = trio.lowlevel.FdStream(stdin_write)
        self._stdout = trio.lowlevel.FdStream(stdout_read)
        self._stderr = trio.lowlevel.FdStream(stderr_read)
        self._exit = os.pidfd_open(self._popen.pid)
        self._last_lines: deque[str] = deque(maxlen=MAX_STDERR_LINES)

    @property
    def pid(self) -> int:
        return self._popen.pid

    async def write_options(self, options: Mapping[str, object]) -> None:
        try:
            await self._stdin.send_all(json.dumps(options).encode() + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # it ended already, which read_answer() reports

    async def read_answer(self) -> Mapping[str, object]:
        """Return what the child says once it is ready.

        Raises:
            EngineError: it says that it failed, or ended, or says something else.
        """
        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_stderr)
            while b"\n" not in received and len(received) <= MAX_ANSWER_BYTES:
                chunk = await self._stdout.receive_some()
                if not chunk:
                    break
                received += chunk
            nursery.cancel_scope.cancel()
        line, newline, _ = bytes(received).partition(b"\n")
        try:
            answer = json.loads(line) if newline else None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EngineError(
                f"the engine {self._name} ended before it was ready: {self.last_words()}", remedy="see its log: -v"
            )
        if answer.get("event") != "ready":
            raise EngineError(str(answer.get("message", ""))[:500], remedy=str(answer.get("remedy", ""))[:500])
        return answer

    async def wait(self) -> str:
        """Wait for the end; return how it came. Cancellation: safe."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_stderr)
            await trio.lowlevel.wait_readable(self._exit)
            nursery.cancel_scope.cancel()
        code = self._popen.wait()
        return f"signal {-code}" if code < 0 else f"exit status {code}"

    async def end(self) -> None:
        """Close its input, which ends it; kill it if that takes long; reap it. Shielded."""
        with trio.CancelScope(shield=True):
            await self._stdin.aclose()
            with trio.move_on_after(EXIT_TIMEOUT_S) as patience:
                await trio.lowlevel.wait_readable(self._exit)
            if patience.cancelled_caught:
                self._popen.kill()
                await trio.lowlevel.wait_readable(self._exit)
            self._popen.wait()
            await self._stdout.aclose()
            await self._stderr.aclose()
            os.close(self._exit)

    def last_words(self) -> str:
        """The last line that the child logged."""
        return next((line for line in reversed(self._last_lines) if line), "it said nothing")

    async def _read_stderr(self) -> None:
        """Keep its last lines, so that a child never blocks on its log."""
        line = bytearray()
        while chunk := await self._stderr.receive_some():
            *finished, rest = (line + chunk).split(b"\n")
            for text in finished:
                self._keep(text)
            line = bytearray(rest[:MAX_STDERR_LINE_BYTES])
        self._keep(line)

    def _keep(self, line: bytes | bytearray) -> None:
        text = bytes(line[:MAX_STDERR_LINE_BYTES]).decode(errors="replace").strip()
        self._last_lines.append(text)
        logger.debug("engine %s: %s", self._name, text)


def _own_url(url: object) -> str:
    try:
        return check_engine_url(url if isinstance(url, str) else "")
    except ConfigError as error:
        raise EngineError(f"the child engine listens where it may not: {error.message}") from error


def _read_models(answer: Mapping[str, object], spec: ChildSpec) -> tuple[ModelInfo, ...]:
    models = answer.get("models")
    if not isinstance(models, list):
        raise EngineError(f"the engine {spec.name} names no models")
    return tuple(
        ModelInfo(
            model_id=model["model_id"],
            kind=ModelKind(model["kind"]),
            context_tokens=model["context_tokens"],
            quantisation=model["quantisation"],
            weights_sha256=bytes.fromhex(model["weights_sha256"]),
            tokenizer_sha256=_digest(model.get("tokenizer_sha256")),
            chat_template_sha256=_digest(model.get("chat_template_sha256")),
            engine=model["engine"],
            engine_version=model.get("engine_version"),
            parameters=PARAMETERS[spec.dialect],
        )
        for model in models
    )


def _digest(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)
