"""Brings one job's work to the engine and its events to the client."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import trio

from hostmesh.errors import EngineError
from hostmesh.jobs.bill import JobBill
from hostmesh.jobs.engine import ChatWork, EmbeddingWork, Engine, EngineEvent, Finished, FinishReason, TextPiece, Vector
from hostmesh.jobs.parameters import utf8_size
from hostmesh.jobs.throughput import JobPace
from hostmesh.jobs.usage import TokenMeter
from hostmesh.v1 import job_pb2

MAX_TEXT_BYTES = 65_536
MAX_VALUES = 16_384
MAX_FLOAT = 3.4028234e38
"""The wire carries 32-bit floats."""


class Delivery:
    """One job in the engine.

    What the engine says is checked before it is passed on, so that a client never sees a broken protocol because of it:
    a generation that ends without its last event, vectors out of order, numbers that are none, each is an engine that
    failed.

    Args:
        work: what to do.
        meter: counts.
        bill: waits for the session's slice, and writes receipts.
        send: to the client; waits while it does not read.
        pace: is told the times of the answer.
    """

    def __init__(
        self,
        work: ChatWork | EmbeddingWork,
        meter: TokenMeter,
        bill: JobBill,
        send: Callable[[job_pb2.RunResponse], Awaitable[None]],
        pace: JobPace,
    ) -> None:
        self._work = work
        self._meter = meter
        self._bill = bill
        self._send = send
        self._pace = pace
        self._next_index = 0
        self._dimensions: int | None = None
        self._finish: FinishReason | None = None
        self._prompt_tokens: int | None = None

    async def run(self, engine: Engine, *, silence_s: float) -> None:
        """Do the work and deliver it, the usage last.

        Args:
            engine: does it.
            silence_s: an engine that makes no event for so long has failed. The time that the client takes to read does
                not count.

        Raises:
            EngineError: the engine failed.
            ConnectionLostError: the client is gone.
            JobError: RECEIPT_OVERDUE.

        Cancellation: safe; the engine stops.
        """
        self._bill.start()
        # One scope around the whole block, whose deadline moves: an engine's block may not outlive a scope inside it.
        with trio.CancelScope() as silence:
            silence.deadline = trio.current_time() + silence_s
            async with engine.generate(self._work) as events:
                async for event in events:
                    silence.deadline = math.inf
                    if await self._deliver(event):
                        break
                    silence.deadline = trio.current_time() + silence_s
            silence.deadline = math.inf
        if silence.cancelled_caught:
            raise EngineError(f"the engine was silent for {silence_s:g} s")
        if self._finish is None:
            raise EngineError("the engine ended without its last event")
        usage = await self._bill.finish(self._prompt_tokens, self._send)
        await self._send(
            job_pb2.RunResponse(
                completed=job_pb2.JobCompleted(
                    usage=job_pb2.Usage(
                        prompt_tokens=usage.prompt_tokens,
                        completion_tokens=usage.completion_tokens,
                        cost_micros=usage.cost_micros,
                    ),
                    finish_reason=self._finish.value,
                )
            )
        )

    async def _deliver(self, event: EngineEvent) -> bool:
        """Pass one event on. Returns whether the work is done."""
        match event:
            case TextPiece() if isinstance(self._work, ChatWork):
                if not self._meter.piece(event):
                    # The engine goes over the limit that it was given; leaving its block stops it.
                    self._finish = FinishReason.LENGTH
                    self._prompt_tokens = self._meter.prompt_tokens
                    return True
                came_s = trio.current_time()
                self._pace.piece(came_s, self._meter.completion_tokens)
                await self._deliver_text(event.text)
                self._pace.waited(trio.current_time() - came_s)
            case Vector() if isinstance(self._work, EmbeddingWork):
                await self._deliver_vector(event, len(self._work.texts))
            case Finished():
                if isinstance(self._work, EmbeddingWork) and self._next_index != len(self._work.texts):
                    raise EngineError(f"{self._next_index} vectors for {len(self._work.texts)} texts")
                self._prompt_tokens = self._meter.billed_prompt_tokens(event)
                self._pace.finish(trio.current_time(), event.completion_tokens)
                self._finish = event.finish_reason
                return True
            case _:
                raise EngineError(f"the engine made a {type(event).__name__} of {type(self._work).__name__}")
        return False

    async def _deliver_text(self, text: str) -> None:
        if not text:
            return
        if not 1 <= utf8_size(text) <= MAX_TEXT_BYTES:
            raise EngineError(f"a piece of text is no UTF-8 of at most {MAX_TEXT_BYTES} bytes")
        tokens = self._meter.completion_tokens
        await self._bill.take_text(text, tokens, self._send)
        delta = job_pb2.TextDelta(index=self._next_index, text=text, completion_tokens=tokens)
        self._next_index += 1
        await self._send(job_pb2.RunResponse(text=delta))
        await self._bill.send_receipt_if_due(self._send)

    async def _deliver_vector(self, vector: Vector, texts: int) -> None:
        if vector.index != self._next_index or vector.index >= texts:
            raise EngineError(f"vector {vector.index} came where {self._next_index} was due")
        size = len(vector.values)
        if not 1 <= size <= MAX_VALUES or size != (self._dimensions or size):
            raise EngineError(f"a vector has {size} values")
        # False for what is no number, too.
        if not all(abs(value) <= MAX_FLOAT for value in vector.values):
            raise EngineError("a vector has a value that the wire cannot carry")
        self._dimensions = size
        self._next_index += 1
        wire = job_pb2.EmbeddingVector(index=vector.index, values=vector.values)
        # As the wire has them: 32-bit floats.
        await self._bill.add_vector(wire.values)
        await self._send(job_pb2.RunResponse(vector=wire))
        await self._bill.send_receipt_if_due(self._send)
