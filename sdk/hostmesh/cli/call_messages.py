"""Requests and responses of a call as JSON: protobuf's own mapping, with errors that name the field."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import trio
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import EncodeError, Message

from hostmesh.errors import MalformedMessageError, UsageError
from hostmesh.json_text import parse_json
from hostmesh.rpc.method import AnyMethod
from hostmesh.wire.bounds import check_bounds

MAX_JSON_BYTES = 8 * 1024 * 1024
"""Longest JSON text of one request: 1 MiB of bytes in base64 and escapes stay below it."""
_CHUNK_BYTES = 65_536
_OWN_FORMS = "google.protobuf."


class RequestReader:
    """Makes requests of a method from JSON.

    Args:
        method: of a peer.
        pool: in which its messages are.
        fields: the fields of the request as text, for errors.
    """

    def __init__(self, method: AnyMethod, pool: DescriptorPool, fields: Callable[[], str]) -> None:
        self._method = method
        self._pool = pool
        self._fields = fields

    def read(self, text: str, where: str) -> Message:
        """Return the request that a JSON text says.

        Args:
            text: a JSON object, or what else the type's JSON form is.
            where: it came from, for errors.

        Raises:
            UsageError: it is no JSON object, names a field that there is not, has a value of another type, or breaks a
                bound.
        """
        try:
            value: Any = parse_json(text)
        except ValueError as error:
            raise UsageError(
                f"{where} is no JSON: {error}", remedy="""give an object: '{"name": "value"}'"""
            ) from error
        # protobuf's own have forms of their own: Int64Value is a number.
        if not isinstance(value, dict) and not self._method.request_type.DESCRIPTOR.full_name.startswith(_OWN_FORMS):
            raise UsageError(f"{where} is no JSON object", remedy=self._remedy())
        request: Message = self._method.request_type()
        try:
            # UnicodeEncodeError, a ValueError: half of a surrogate pair.
            ParseDict(value, request, descriptor_pool=self._pool)
        except (ParseError, ValueError, OverflowError, TypeError) as error:
            raise self._refuse(where, error) from error
        return self._checked(request, where)

    def empty(self) -> Message:
        """Return the request in which nothing is set.

        Raises:
            UsageError: a field is needed.
        """
        return self._checked(self._method.request_type(), "the empty request")

    def _checked(self, request: Message, where: str) -> Message:
        try:
            size_bytes = len(request.SerializeToString())
            check_bounds(request, size_bytes)
        except (MalformedMessageError, EncodeError) as error:  # EncodeError: proto2's required fields
            raise self._refuse(where, error) from error
        if size_bytes > self._method.max_request_bytes:
            raise UsageError(
                f"{where} has {size_bytes} bytes", remedy=f"{self._method.max_request_bytes} are taken at most"
            )
        return request

    def _refuse(self, where: str, error: Exception) -> UsageError:
        name = self._method.request_type.DESCRIPTOR.name
        said = " ".join(str(error).split()).partition(" Available Fields")[0].rstrip(". ")
        return UsageError(f"{where} is no {name}: {said}", remedy=self._remedy())

    def _remedy(self) -> str:
        return f"fields of {self._method.request_type.DESCRIPTOR.name}: {self._fields() or 'none'}"


def response_object(response: Message, pool: DescriptorPool) -> dict[str, Any]:
    """Return a response as JSON has it.

    Raises:
        MalformedMessageError: it has a value that JSON has no form for: a time after the year 9999.
    """
    try:
        return MessageToDict(response, descriptor_pool=pool)
    except (ValueError, TypeError) as error:
        refused = MalformedMessageError(f"the response has no JSON form: {' '.join(str(error).split())}")
        refused.may_have_executed = True
        raise refused from error


class InputLines:
    """The lines of a file descriptor as they come, without what is empty.

    Read by a thread that nobody waits for when this is cancelled, and past Python's own buffer, whose lock such a
    thread would hold when the process ends.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self._ended = False
        self.number = 0
        """Of the line that was read last, from 1."""

    async def read_line(self) -> str | None:
        """Return the next line with something on it; None after the last.

        Raises:
            UsageError: it is longer than :data:`MAX_JSON_BYTES`, no text, or cannot be read.
        """
        searched = 0
        while True:
            end = self._buffer.find(b"\n", searched)
            if end < 0 and not self._ended:
                searched = len(self._buffer)
                await self._read_more()
                continue
            if end < 0 and not self._buffer:
                return None
            line = bytes(self._buffer if end < 0 else self._buffer[:end])
            del self._buffer[: len(line) + 1]
            searched = 0
            self.number += 1
            if line.strip():
                return _text(line)

    async def read_all(self) -> str:
        """Return everything that is still to come.

        Raises:
            UsageError: as :meth:`read_line`.
        """
        while not self._ended:
            await self._read_more()
        data, self._buffer = bytes(self._buffer), bytearray()
        return _text(data)

    async def _read_more(self) -> None:
        try:
            data = await trio.to_thread.run_sync(  # type: ignore[call-arg]  # the stubs are of an older trio
                os.read, self._descriptor, _CHUNK_BYTES, abandon_on_cancel=True
            )
        except OSError as error:
            raise UsageError(
                f"cannot read standard input: {error.strerror}", remedy="give the request as an argument"
            ) from error
        self._ended = not data
        self._buffer += data
        if len(self._buffer) > MAX_JSON_BYTES:
            raise UsageError(f"a request of more than {MAX_JSON_BYTES} bytes of JSON", remedy="one request a line")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError("standard input is no UTF-8 text", remedy="give JSON as UTF-8") from error
