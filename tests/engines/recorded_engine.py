"""A deterministic OpenAI-compatible engine for tests: it repeats what real engines answered (recorded.json).

    python tests/engines/recorded_engine.py [--owner NAME] [--tokens-per-second N] [--context-tokens N] [--until-eof]

It prints one line, ``{"event": "ready", "url": ...}``. With ``--until-eof`` it ends when its standard input does. A key
in the environment variable ``RECORDED_ENGINE_KEY`` is asked for.

Models: ``recorded`` and ``smollm2-135m-instruct`` answer a recorded prompt as recorded, and any other with the
recording that a hash of the prompt picks. ``recorded-slow`` does so at 20 tokens a second. ``recorded-embedding`` and
``all-minilm-l6-v2`` embed likewise. Each ``fail-*`` model fails in the way of its name, see :data:`FAILURES`.

Truth for tests, without a key: ``GET /stats`` counts, ``GET /stats?wait=cancelled:2&timeout=10`` answers once a count
is reached, ``GET /requests`` gives the last 100 bodies.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import select
import struct
import sys
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from recording import Recording, event_text, recorded_tokens

CHAT_MODELS = ("recorded", "recorded-slow", "smollm2-135m-instruct")
EMBEDDING_MODELS = ("recorded-embedding", "all-minilm-l6-v2")
SLOW_TOKENS_PER_SECOND = 20.0
FAILURES = {
    "fail-500": "HTTP 500 before anything",
    "fail-loading": "HTTP 503, as llama.cpp while it loads",
    "fail-busy": "HTTP 429",
    "fail-context": "the recorded error of a prompt that is too long",
    "fail-midway": "the connection breaks after three tokens",
    "fail-event": "an error event after three tokens",
    "fail-old-event": "an error: field after three tokens, as older llama.cpp servers",
    "fail-no-usage": "everything but the usage",
    "fail-no-end": "everything but [DONE]",
    "fail-no-reason": "everything but the finish reason",
    "fail-garbage": "bytes that are no JSON",
    "fail-not-utf8": "bytes that are no UTF-8",
    "fail-huge-event": "one event of 8 MiB",
    "fail-endless": "tokens for ever",
    "fail-overrun": "usage of more tokens than were asked for",
    "fail-hang": "nothing, until the client leaves",
    "fail-comments": "comments for ever, as a server that keeps a connection alive",
    "fail-redirect": "HTTP 307 to /stolen on this server",
    "fail-compressed": "gzip, which was not asked for",
    "fail-surrogate": "half a character",
    "fail-vectors": "one vector too few",
    "fail-nan": "a vector with NaN",
    "fail-huge-vectors": "32 MiB",
}


class RecordedEngine(ThreadingHTTPServer):
    """The server and its counts."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, recording: Recording, options: argparse.Namespace) -> None:
        super().__init__(("127.0.0.1", options.port), Handler)
        self.recording = recording
        self.options = options
        self.key = os.environ.get("RECORDED_ENGINE_KEY")
        self.changed = threading.Condition()
        self.counts = dict.fromkeys(
            ("requests", "active", "most_active", "completed", "cancelled", "failed", "tokens", "stolen"), 0
        )
        self.requests: deque[object] = deque(maxlen=100)

    def count(self, **changes: int) -> None:
        with self.changed:
            for name, change in changes.items():
                self.counts[name] += change
            self.counts["most_active"] = max(self.counts["most_active"], self.counts["active"])
            self.changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is no error here."""


class ClientLeftError(Exception):
    pass


class Handler(BaseHTTPRequestHandler):
    server: RecordedEngine

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/stats":
            self.send(200, self.stats(parse_qs(parts.query)))
        elif parts.path == "/requests":
            self.send(200, {"requests": list(self.server.requests)})
        elif parts.path == "/health":
            self.send(200, {"status": "ok"})
        elif not self.has_key():
            return
        elif parts.path == "/v1/models":
            self.send(200, {"object": "list", "data": [self.listed(name) for name in self.model_names()]})
        else:
            self.send(404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/stolen":
            self.server.count(stolen=1)
        if not self.has_key():
            return
        match self.path:
            case "/v1/chat/completions":
                self.work(self.chat, body)
            case "/v1/embeddings":
                self.work(self.embed, body)
            case "/apply-template":
                self.send(200, {"prompt": json.dumps(body["messages"])})
            case "/tokenize":
                self.send(200, {"tokens": list(range(self.server.recording.count_tokens(body["content"])))})
            case _:
                self.send(404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}})

    # --- answers ---

    def work(self, do: Any, body: dict[str, Any]) -> None:
        self.server.requests.append(body)
        self.server.count(requests=1, active=1)
        ending = "failed"
        try:
            ending = do(body)
        except (ClientLeftError, ConnectionError):
            ending = "cancelled"
        finally:
            self.server.count(active=-1, **{ending: 1})

    def chat(self, body: dict[str, Any]) -> str:
        model = body["model"]
        if model not in CHAT_MODELS and self.fail_at_once(model):
            return "failed"
        prompt_tokens = self.server.recording.count_tokens(json.dumps(body["messages"]))
        if prompt_tokens > self.server.options.context_tokens:
            self.too_long(prompt_tokens)
            return "failed"
        chat = self.server.recording.pick(body["messages"])
        texts = [text for event in chat["events"] if (text := event_text(event))][: body.get("max_tokens") or None]
        reason = chat["answer"]["choices"][0]["finish_reason"] if len(texts) == recorded_tokens(chat) else "length"
        usage = {
            "completion_tokens": len(texts),
            "prompt_tokens": prompt_tokens,
            "total_tokens": prompt_tokens + len(texts),
        }
        if not body.get("stream"):
            self.server.count(tokens=len(texts))
            message = {"role": "assistant", "content": "".join(texts)}
            choice = {"index": 0, "finish_reason": reason, "message": message}
            self.send(200, {"object": "chat.completion", "model": model, "choices": [choice], "usage": usage})
            return "completed"
        self.begin_stream()
        self.event(chunk(model, {"role": "assistant", "content": None}))
        wants = body.get("stream_options") or {}
        for number, text in enumerate(texts, start=1):
            self.pause(model)
            if number == 4 and self.fail_midway(model):
                return "failed"
            extra = (
                {"timings": {"predicted_n": number, "prompt_n": prompt_tokens}} if body.get("timings_per_token") else {}
            )
            self.event(chunk(model, {"content": text}) | extra)
            self.server.count(tokens=1)
        if model != "fail-no-reason":
            self.event(chunk(model, {}, reason))
        if model == "fail-overrun":
            usage["completion_tokens"] = (body.get("max_tokens") or 0) + 1
        if wants.get("include_usage") and model != "fail-no-usage":
            self.event({"object": "chat.completion.chunk", "model": model, "choices": [], "usage": usage})
        if model != "fail-no-end":
            self.write(b"data: [DONE]\n\n")
        return "completed"

    def embed(self, body: dict[str, Any]) -> str:
        model = body["model"]
        if model not in EMBEDDING_MODELS and self.fail_at_once(model):
            return "failed"
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        data = []
        total = 0
        for index, text in enumerate(texts):
            entry = self.server.recording.pick_embedding(text)
            total += entry["usage"]["prompt_tokens"]
            vector: Any = entry["vector"]
            if body.get("encoding_format") == "base64":
                vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            data.append({"object": "embedding", "index": index, "embedding": vector})
        if model == "fail-vectors":
            data.pop()
        if model == "fail-nan":
            data[0]["embedding"] = [float("nan")]
        usage = {"prompt_tokens": total, "total_tokens": total}
        document: dict[str, Any] = {"object": "list", "model": model, "data": data}
        if model == "fail-huge-vectors":
            document["padding"] = "x" * (32 * 1024 * 1024)
        if model != "fail-no-usage":
            document["usage"] = usage
        self.send(200, document)
        return "completed"

    def fail_at_once(self, model: str) -> bool:
        match model:
            case "fail-500":
                self.send(500, {"error": {"code": 500, "message": "out of memory", "type": "server_error"}})
            case "fail-loading":
                self.send(503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}})
            case "fail-busy":
                self.send(429, {"error": {"message": "Rate limit reached", "type": "requests"}})
            case "fail-context":
                recorded = self.server.recording.errors["context"]
                self.send(recorded["status"], recorded["body"])
            case "fail-hang":
                self.wait_for_client_to_leave(None)
            case "fail-comments":
                self.begin_stream()
                while True:
                    self.write(b": still here\n\n")
                    self.wait_for_client_to_leave(0.02)
            case "fail-redirect":
                self.send(307, {}, Location="/stolen")
            case "fail-compressed":
                self.begin_stream(Content_Encoding="gzip")
            case _:
                return False
        return True

    def fail_midway(self, model: str) -> bool:
        match model:
            case "fail-midway":
                self.connection.close()
            case "fail-event":
                self.event({"error": {"code": 500, "message": "out of memory", "type": "server_error"}})
            case "fail-old-event":
                self.write(b'error: {"code": 500, "message": "out of memory", "type": "server_error"}\n\n')
            case "fail-garbage":
                self.write(b"data: {]\n\n")
            case "fail-not-utf8":
                self.write(b"data: \xff\xfe\n\n")
            case "fail-surrogate":
                self.write(b'data: {"choices": [{"delta": {"content": "\\ud83d"}, "finish_reason": null}]}\n\n')
            case "fail-huge-event":
                self.write(b"data: ")
                for _ in range(128):
                    self.write(b"x" * 65536)
            case "fail-endless":
                while True:
                    self.event(chunk(model, {"content": "more "}))
            case _:
                return False
        return True

    # --- lists ---

    def model_names(self) -> list[str]:
        return [*CHAT_MODELS, *EMBEDDING_MODELS, *FAILURES]

    def listed(self, name: str) -> dict[str, Any]:
        entry = dict(self.server.recording.listed)
        entry |= {"id": name, "owned_by": self.server.options.owner}
        meta = {"n_ctx": self.server.options.context_tokens, "ftype": "Q4_1"}
        entry["meta"] = meta | ({"kind": "embedding"} if name in EMBEDDING_MODELS else {})
        return entry

    # --- HTTP ---

    def stats(self, query: dict[str, list[str]]) -> dict[str, int]:
        with self.server.changed:
            if "wait" in query:
                name, _, count = query["wait"][0].partition(":")
                timeout = float(query.get("timeout", ["10"])[0])
                self.server.changed.wait_for(lambda: self.server.counts[name] >= int(count), timeout)
            return dict(self.server.counts)

    def has_key(self) -> bool:
        if self.server.key is None or self.headers.get("Authorization") == f"Bearer {self.server.key}":
            return True
        recorded = self.server.recording.errors["no_key"]
        self.send(recorded["status"], recorded["body"])
        return False

    def too_long(self, prompt_tokens: int) -> None:
        recorded = self.server.recording.errors["context"]
        error = recorded["body"]["error"] | {
            "n_prompt_tokens": prompt_tokens,
            "n_ctx": self.server.options.context_tokens,
        }
        self.send(recorded["status"], {"error": error})

    def send(self, status: int, document: Any, **headers: str) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def begin_stream(self, **headers: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def event(self, document: Any) -> None:
        self.write(b"data: " + json.dumps(document).encode() + b"\n\n")

    def write(self, data: bytes) -> None:
        self.wait_for_client_to_leave(0)
        self.wfile.write(data)

    def pause(self, model: str) -> None:
        speed = SLOW_TOKENS_PER_SECOND if model == "recorded-slow" else self.server.options.tokens_per_second
        if speed:
            self.wait_for_client_to_leave(1 / speed)

    def wait_for_client_to_leave(self, timeout_s: float | None) -> None:
        """Wait for the time given; a client that leaves meanwhile is noticed at once."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            readable, _, _ = select.select([self.connection], [], [], left)
            if not readable:
                return
            if not self.connection.recv(4096):
                raise ClientLeftError


def chunk(model: str, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {"object": "chat.completion.chunk", "model": model, "choices": [choice]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--owner", default="llamacpp", help="what /v1/models calls the owner; the adapter's clue")
    parser.add_argument("--tokens-per-second", type=float, default=0.0, help="0 = as fast as can be")
    parser.add_argument("--context-tokens", type=int, default=2048)
    parser.add_argument("--until-eof", action="store_true")
    options = parser.parse_args()
    engine = RecordedEngine(Recording.load(), options)
    threading.Thread(target=engine.serve_forever, daemon=True).start()
    print(json.dumps({"event": "ready", "url": f"http://127.0.0.1:{engine.server_port}"}), flush=True)
    if options.until_eof:
        sys.stdin.read()
    else:
        threading.Event().wait()


if __name__ == "__main__":
    main()
