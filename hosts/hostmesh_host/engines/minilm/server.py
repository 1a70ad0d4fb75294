"""An OpenAI-compatible embeddings server on loopback, with the standard library's HTTP server. Bounded."""

from __future__ import annotations

import base64
import hmac
import json
import math
import select
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hostmesh.errors import ContextExceededError
from hostmesh_host.engines.minilm.model import MiniLm
from hostmesh_host.engines.weights import MINILM

MAX_BODY_BYTES = 20 * 1024 * 1024
"""256 texts of 64 KiB, and JSON around them."""
MAX_TEXTS = 256
MAX_CONNECTIONS = 32
READ_TIMEOUT_S = 10.0


class EmbeddingServer(ThreadingHTTPServer):
    """Serves one model on 127.0.0.1, on a free port, to those who know the key.

    One text is computed at a time; a request whose client has gone is given up between two texts.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, model: MiniLm, *, api_key: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model = model
        self.api_key = api_key
        self.computing = threading.Lock()
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for the request, if there is a place for one; else hang up."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle the request and free its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that left is no error, and a traceback may hold its text."""


class _Refused(Exception):  # noqa: N818 - an answer more than an error
    """The request ends with an error document."""

    def __init__(self, status: HTTPStatus, kind: str, message: str, **more: object) -> None:
        super().__init__(message)
        self.status = status
        self.document = {"error": {"code": int(status), "type": kind, "message": message, **more}}


class _Handler(BaseHTTPRequestHandler):
    """One request, one connection."""

    server: EmbeddingServer
    server_version = "hostmesh-minilm"
    sys_version = ""
    timeout = READ_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Log nothing."""

    def do_GET(self) -> None:
        """Answer ``/health`` and ``/v1/models``."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Answer ``/v1/embeddings`` and ``/tokenize``."""
        self._answer(self._post)

    def _answer(self, make: Any) -> None:
        try:
            status, document = HTTPStatus.OK, make()
        except _Refused as refused:
            status, document = refused.status, refused.document
        except ConnectionError:
            return
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _get(self) -> Mapping[str, object]:
        if self.path == "/health":
            return {"status": "ok"}
        self._check_key()
        if self.path == "/v1/models":
            meta = {"n_ctx": self.server.model.max_tokens, "ftype": "int8", "kind": "embedding"}
            entry = {"id": MINILM.model_id, "object": "model", "created": 0, "owned_by": "hostmesh", "meta": meta}
            return {"object": "list", "data": [entry]}
        raise _Refused(HTTPStatus.NOT_FOUND, "not_found_error", "no such path")

    def _post(self) -> Mapping[str, object]:
        self._check_key()
        if self.path == "/v1/embeddings":
            return self._embeddings(self._read())
        if self.path == "/tokenize":
            request = self._read()
            text = request.get("content")
            if not isinstance(text, str):
                raise _bad("content must be a text")
            return {"tokens": self.server.model.tokenize(text, add_special=request.get("add_special") is True)}
        raise _Refused(HTTPStatus.NOT_FOUND, "not_found_error", "no such path")

    def _check_key(self) -> None:
        given = self.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self.server.api_key}".encode()):
            raise _Refused(HTTPStatus.UNAUTHORIZED, "authentication_error", "Invalid API Key")

    def _read(self) -> Mapping[str, object]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 12:
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "invalid_request_error", "a Content-Length is needed")
        if int(length) > MAX_BODY_BYTES:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "invalid_request_error", "the body is too large")
        try:
            document = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise _bad("the body is no JSON object")
        return document

    def _embeddings(self, request: Mapping[str, object]) -> Mapping[str, object]:
        if request.get("model") != MINILM.model_id:
            raise _Refused(HTTPStatus.NOT_FOUND, "not_found_error", "no such model")
        encoding = request.get("encoding_format", "float")
        if encoding not in ("float", "base64"):
            raise _bad("encoding_format must be float or base64")
        data = []
        total = 0
        for index, text in enumerate(_texts(request.get("input"))):
            vector, tokens = self._embed(text)
            if not all(math.isfinite(value) for value in vector):
                raise _Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "server_error", "the vector is not finite")
            total += tokens
            shown = (
                vector if encoding == "float" else base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            )
            data.append({"object": "embedding", "index": index, "embedding": shown})
        usage = {"prompt_tokens": total, "total_tokens": total}
        return {"object": "list", "model": MINILM.model_id, "data": data, "usage": usage}

    def _embed(self, text: str) -> tuple[Sequence[float], int]:
        with self.server.computing:
            if _has_hung_up(self.connection):
                raise ConnectionAbortedError
            try:
                return self.server.model.embed(text)
            except ContextExceededError as error:
                raise _Refused(
                    HTTPStatus.BAD_REQUEST,
                    "exceed_context_size_error",
                    error.message,
                    n_prompt_tokens=error.input_tokens,
                    n_ctx=error.context_tokens,
                ) from error


def _texts(value: object) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not 1 <= len(texts) <= MAX_TEXTS:
        raise _bad(f"input must be a text or a list of 1 to {MAX_TEXTS} texts")
    if not all(isinstance(text, str) and _is_utf8(text) for text in texts):
        raise _bad("input must be a text or a list of texts")
    return texts


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _has_hung_up(connection: socket.socket) -> bool:
    readable, _, _ = select.select([connection], [], [], 0)
    if not readable:
        return False
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


def _bad(message: str) -> _Refused:
    return _Refused(HTTPStatus.BAD_REQUEST, "invalid_request_error", message)
