"""How ``hostmesh-host`` commands reach the daemon that runs: a Unix socket, one line of JSON each way.

The socket lies beside the host's key in a directory of mode 0700: whoever may use it may read the key as well.
Requests: ``{"do": "status"}``, ``{"do": "announce", "change": {...}}``, ``{"do": "withdraw"}``. Answers:
``{"ok": {...}}`` or ``{"error": {"code", "message", "remedy"}}``.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import trio

from hostmesh.errors import HostmeshError, NodeNotRunningError, StartFailedError, UsageError

FILE_NAME = "control.sock"
MAX_LINE_BYTES = 1024 * 1024
REQUEST_TIMEOUT_S = 5.0
"""Most time for a request to arrive, and for its answer to be taken."""
ANSWER_TIMEOUT_S = 30.0
MAX_CONNECTIONS = 8

Handler = Callable[[Mapping[str, object]], Awaitable[Mapping[str, object]]]


@contextmanager
def open_control_socket(directory: Path) -> Iterator[trio.SocketListener]:
    """Listen for commands. Call it once the host's key is locked: a socket that is there then is a leftover.

    Raises:
        StartFailedError: the socket cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _short_path(directory) as path:
                if path.exists() and stat.S_ISSOCK(path.lstat().st_mode):
                    path.unlink()
                listener.bind(str(path))
                path.chmod(0o600)
            listener.listen(MAX_CONNECTIONS)
        except OSError as error:
            raise StartFailedError(
                f"cannot listen for commands in {directory}: {error.strerror}", remedy="check its owner and mode"
            ) from error
        listener.setblocking(False)
        try:
            yield trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        finally:
            (directory / FILE_NAME).unlink(missing_ok=True)
    finally:
        listener.close()


async def serve_control(listener: trio.SocketListener, handle: Handler) -> None:
    """Answer commands until cancelled, at most :data:`MAX_CONNECTIONS` at a time."""
    places = trio.Semaphore(MAX_CONNECTIONS)

    async def serve(stream: trio.SocketStream) -> None:
        async with places, stream:
            try:
                with trio.fail_after(REQUEST_TIMEOUT_S):
                    request = await _receive_line(stream)
                answer = await _answer(request, handle)
                with trio.fail_after(REQUEST_TIMEOUT_S):
                    await stream.send_all(json.dumps(answer).encode() + b"\n")
            except (trio.TooSlowError, trio.BrokenResourceError):
                return  # the command went away

    await trio.serve_listeners(serve, [listener])


async def _answer(line: bytes, handle: Handler) -> Mapping[str, object]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        return {"error": {"code": UsageError.code, "message": "the request is no JSON object", "remedy": ""}}
    try:
        return {"ok": await handle(request)}
    except HostmeshError as error:
        return {"error": {"code": error.code, "message": error.message, "remedy": error.remedy}}


class DaemonError(UsageError):
    """The daemon refused a command; ``daemon_code`` is its own error's code."""

    code = "HOST_REFUSED"

    def __init__(self, message: str, *, daemon_code: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.daemon_code = daemon_code


async def ask_daemon(directory: Path, request: Mapping[str, object]) -> Mapping[str, object]:
    """Send a command to the daemon and return what it answers.

    Raises:
        NodeNotRunningError: no daemon runs with this data directory.
        DaemonError: it refused, or did not answer in time.

    Cancellation: safe; the command may be carried out all the same.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short_path(directory) as path:
            connection.connect(str(path))  # to a listener on this machine: at once, or refused
    except OSError as error:
        connection.close()
        raise NodeNotRunningError(
            f"no hostmesh-host runs with {directory}", remedy="start one: hostmesh-host start"
        ) from error
    connection.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(connection))
    try:
        async with stream:
            with trio.fail_after(ANSWER_TIMEOUT_S):
                await stream.send_all(json.dumps(request).encode() + b"\n")
                answer = json.loads(await _receive_line(stream))
    except (trio.TooSlowError, trio.BrokenResourceError, ValueError) as error:
        raise DaemonError(
            "the host did not answer", daemon_code="", remedy="see its log, and whether it is ending"
        ) from error
    if "error" in answer:
        refusal = answer["error"]
        raise DaemonError(refusal["message"], daemon_code=refusal["code"], remedy=refusal["remedy"])
    ok: Mapping[str, object] = answer["ok"]
    return ok


@contextmanager
def _short_path(directory: Path) -> Iterator[Path]:
    """Yield a short path of the socket: one may have 107 bytes at most, and a home directory more."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}/{FILE_NAME}")
    finally:
        os.close(descriptor)


async def _receive_line(stream: trio.SocketStream) -> bytes:
    received = bytearray()
    while b"\n" not in received and len(received) < MAX_LINE_BYTES:
        chunk = await stream.receive_some()
        if not chunk:
            break
        received += chunk
    return bytes(received).partition(b"\n")[0]
