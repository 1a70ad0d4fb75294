"""HTTP to an engine: bounded, without redirects or proxies, cut off when the caller leaves.

Every request is its own connection. On loopback that costs less than a millisecond, and no request ever meets a
kept-alive connection that the engine is just closing.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import trio

from hostmesh import ModelInfo
from hostmesh.errors import EngineError
from hostmesh_host.engines.answers import error_of, read_json
from hostmesh_host.engines.endpoint import Endpoint

MAX_ERROR_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Most bytes of an answer that is no stream; 16 vectors of 16,384 numbers take about 6 MB."""
CLOSE_TIMEOUT_S = 1.0
"""Most time that leaving a request may take; what :class:`~hostmesh.Engine` allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTimeouts:
    """How long an engine may be silent."""

    connect_s: float = 5.0
    first_event_s: float = 300.0
    """Until the answer begins: the engine's own queue and the prompt come before it."""
    idle_s: float = 60.0
    """Between two events of an answer."""
    probe_s: float = 5.0
    """For questions that cost the engine nothing: health, list of models, tokenizer."""


@asynccontextmanager
async def open_http(
    endpoint: Callable[[], Endpoint], *, timeouts: EngineTimeouts | None = None
) -> AsyncIterator[EngineHttp]:
    """Yield a client of the engine; leaving the block closes its connections.

    Args:
        endpoint: where the engine is now; raises EngineError while it is nowhere.
        timeouts: None = the defaults.
    """
    timeouts = timeouts or EngineTimeouts()
    async with httpx.AsyncClient(
        trust_env=False,  # no proxy from the environment: prompts go to the engine and nowhere else
        follow_redirects=False,
        http2=False,
        timeout=httpx.Timeout(None, connect=timeouts.connect_s),
        limits=httpx.Limits(max_connections=256, max_keepalive_connections=0),
        headers={"accept-encoding": "identity", "connection": "close", "user-agent": "hostmesh-host"},
    ) as client:
        yield EngineHttp(client, endpoint, timeouts)


class EngineHttp:
    """Asks an engine. All its failures are :class:`~hostmesh.errors.EngineError`."""

    def __init__(self, client: httpx.AsyncClient, endpoint: Callable[[], Endpoint], timeouts: EngineTimeouts) -> None:
        self._client = client
        self._endpoint = endpoint
        self.timeouts = timeouts

    async def ask(
        self,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        timeout_s: float | None = None,
        model: ModelInfo | None = None,
    ) -> Mapping[str, object]:
        """Return the JSON object that the engine answers.

        Args:
            path: such as ``/v1/models``.
            body: None = GET, else POST.
            timeout_s: for everything; None = that of a probe.
            model: the model asked, for the error.

        Raises:
            EngineError: no answer in time, another status than 200, more than :data:`MAX_ANSWER_BYTES`, or no JSON.

        Cancellation: safe; the connection is closed.
        """
        timeout_s = self.timeouts.probe_s if timeout_s is None else timeout_s
        with trio.move_on_after(timeout_s):
            async with self.open(path, body, model=model) as stream:
                return read_json(await stream.read_all(MAX_ANSWER_BYTES))
        raise EngineError(f"the engine did not answer {path} in {timeout_s:g} s", remedy="see the engine's own log")

    @asynccontextmanager
    async def open(
        self, path: str, body: Mapping[str, object] | None = None, *, model: ModelInfo | None = None
    ) -> AsyncIterator[ByteStream]:
        """Send a request and yield its answer as bytes; leaving the block closes the connection.

        Raises:
            EngineError: the engine cannot be reached, or answers with another status than 200.

        Cancellation: safe; takes at most :data:`CLOSE_TIMEOUT_S` more.
        """
        endpoint = self._endpoint()
        headers = {"content-type": "application/json"}
        if endpoint.api_key is not None:
            headers["authorization"] = f"Bearer {endpoint.api_key}"
        try:
            content = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise EngineError("the input holds half a character", remedy="send text that UTF-8 can carry") from error
        try:
            request = self._client.build_request(
                "GET" if content is None else "POST", endpoint.base_url + path, content=content, headers=headers
            )
            response = await self._client.send(request, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unreachable(error) from error
        stream = ByteStream(response)
        try:
            encoding = response.headers.get("content-encoding", "identity")
            if response.status_code != httpx.codes.OK:
                raise error_of(response.status_code, await _error_document(stream), model=model)
            if encoding != "identity":
                raise EngineError("the engine compressed its answer, which it was not asked to")
            yield stream
        finally:
            await stream.close()


class ByteStream:
    """The body of one answer, as it comes."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._chunks = response.aiter_raw()
        self._ended = False

    async def receive(self) -> bytes:
        """Return the next bytes; ``b""`` at the end.

        Raises:
            EngineError: the connection broke.
        """
        try:
            return await anext(self._chunks)
        except StopAsyncIteration:
            self._ended = True
            return b""
        except (httpx.HTTPError, httpx.StreamError) as error:
            self._ended = True
            raise EngineError("the engine broke its answer off", remedy="see the engine's own log") from error
        except BaseException:
            self._ended = True  # a cancelled generator has ended
            raise

    async def read_all(self, max_bytes: int) -> bytes:
        """Return the whole body.

        Raises:
            EngineError: it is over the bound.
        """
        body = bytearray()
        while chunk := await self.receive():
            body += chunk
            if len(body) > max_bytes:
                raise EngineError(f"the engine's answer is over {max_bytes} bytes")
        return bytes(body)

    async def close(self) -> None:
        """Close the connection, so that the engine stops computing. Shielded for at most a second."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_TIMEOUT_S):
            try:
                await self._response.aclose()
                # httpx nests generators; one that is dropped half-way would be the garbage collector's to end. On the
                # closed connection each step returns what is buffered or fails, and with that they have all ended.
                while not self._ended and await self.receive():
                    pass
            except (httpx.HTTPError, httpx.StreamError, EngineError):
                pass  # closing is all that was wanted


async def _error_document(stream: ByteStream) -> Mapping[str, object] | None:
    try:
        return read_json(await stream.read_all(MAX_ERROR_BYTES))
    except EngineError:
        return None


def _unreachable(error: Exception) -> EngineError:
    # The type alone: an httpx message may carry the address, and the address a path that was meant to be private.
    return EngineError(
        f"the engine cannot be reached ({type(error).__name__})", remedy="start the engine, and check --engine URL"
    )
