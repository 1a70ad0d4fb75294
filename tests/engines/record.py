"""Records a real llama.cpp server, and the embedding engine, for tests/engines/recorded_engine.py.

    python tests/engines/record.py            writes tests/engines/recorded.json
    python tests/engines/record.py --check    compares instead, and ends with 1 where the engines now answer otherwise

What changes from run to run (ids, times) is left out. Temperature is 0 throughout.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import trio

from hostmesh_host.engines.child import ChildEngine
from hostmesh_host.engines.embedded import minilm_spec, smollm2_spec
from hostmesh_host.engines.endpoint import Endpoint

RECORDED = Path(__file__).with_name("recorded.json")
CHAT_MODEL = "smollm2-135m-instruct"
EMBEDDING_MODEL = "all-minilm-l6-v2"
CONTEXT_TOKENS = 2048
PROMPTS = (
    "What is a peer?",
    "Say hello in one short sentence.",
    "Write two lines about the sea.",
    "Count from one to five.",
    "Name a colour.",
    "Schreibe ein Wort mit Umlaut. \U0001f600",
)
LIMITED = ("Explain what a hash function is.", 8)
TEXTS = (
    "A cat sits on the mat.",
    "A kitten rests on the rug.",
    "The bank raised its interest rates.",
    "Grüße aus 東京",
)
VOLATILE = {"id", "created", "system_fingerprint", "modified_at"}


async def main(*, check: bool) -> int:
    """Ask the engines, then write or compare."""
    chat = ChildEngine(smollm2_spec(threads=1, context_tokens=CONTEXT_TOKENS))
    vectors = ChildEngine(minilm_spec(threads=1))
    async with trio.open_nursery() as nursery:
        await nursery.start(chat.run)
        await nursery.start(vectors.run)
        # llama.cpp closes idle connections, at times just when the next request goes out on them.
        async with httpx.AsyncClient(trust_env=False, timeout=120, headers={"connection": "close"}) as client:
            recording = await record(client, chat.endpoint, vectors.endpoint)
        recording["engine"] = chat.models()[0].engine
        nursery.cancel_scope.cancel()
    text = json.dumps(recording, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    if not check:
        RECORDED.write_text(text, encoding="utf-8")
        return 0
    if RECORDED.read_text(encoding="utf-8") == text:
        return 0
    print("the engines answer otherwise than recorded", file=sys.stderr)
    return 1


async def record(client: httpx.AsyncClient, chat: Endpoint, vectors: Endpoint) -> dict[str, Any]:
    """Return everything that the test engine repeats."""
    asks = [(prompt, 48) for prompt in PROMPTS] + [LIMITED]
    return {
        "chats": [await record_chat(client, chat, prompt, most) for prompt, most in asks],
        "models": await answer(client, chat, "/v1/models"),
        "errors": {
            "context": await answer(client, chat, "/v1/chat/completions", chat_request("word " * 3000, 8)),
            "no_key": await answer(client, Endpoint(base_url=chat.base_url, api_key=None), "/v1/models"),
            "bad_parameter": await answer(
                client, chat, "/v1/chat/completions", {**chat_request("x", 1), "temperature": "hot"}
            ),
        },
        "embedding_models": await answer(client, vectors, "/v1/models"),
        "embeddings": [await record_embedding(client, vectors, text) for text in TEXTS],
    }


def chat_request(prompt: str, max_tokens: int) -> dict[str, Any]:
    """Return a request for a plain answer."""
    return {
        "model": CHAT_MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "temperature": 0,
    }


async def record_chat(client: httpx.AsyncClient, endpoint: Endpoint, prompt: str, max_tokens: int) -> dict[str, Any]:
    """Return one prompt's plain answer, its streamed events, its template and its tokens."""
    request = chat_request(prompt, max_tokens)
    streamed = {**request, "stream": True, "stream_options": {"include_usage": True}, "timings_per_token": True}
    events: list[Any] = []
    async with client.stream(
        "POST", f"{endpoint.base_url}/v1/chat/completions", json=streamed, headers=headers(endpoint)
    ) as response:
        assert response.status_code == 200, response.status_code
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                data = line.removeprefix("data: ")
                events.append(data if data == "[DONE]" else steady(json.loads(data)))
    template = await answer(client, endpoint, "/apply-template", {"messages": request["messages"]})
    tokens = await answer(
        client,
        endpoint,
        "/tokenize",
        {"content": template["body"]["prompt"], "add_special": True, "parse_special": True},
    )
    return {
        "request": request,
        "events": events,
        "answer": (await answer(client, endpoint, "/v1/chat/completions", request))["body"],
        "template": template["body"]["prompt"],
        "template_tokens": len(tokens["body"]["tokens"]),
    }


async def record_embedding(client: httpx.AsyncClient, endpoint: Endpoint, text: str) -> dict[str, Any]:
    """Return one text's vector, rounded to six places, and its count of tokens."""
    body = (await answer(client, endpoint, "/v1/embeddings", {"model": EMBEDDING_MODEL, "input": text}))["body"]
    tokens = await answer(client, endpoint, "/tokenize", {"content": text, "add_special": True})
    return {
        "text": text,
        "vector": [round(value, 6) for value in body["data"][0]["embedding"]],
        "tokens": tokens["body"]["tokens"],
        "usage": body["usage"],
    }


async def answer(client: httpx.AsyncClient, endpoint: Endpoint, path: str, body: Any = None) -> dict[str, Any]:
    """Return status and body of one request."""
    response = await client.request(
        "GET" if body is None else "POST", endpoint.base_url + path, json=body, headers=headers(endpoint)
    )
    return {"status": response.status_code, "body": steady(response.json())}


def headers(endpoint: Endpoint) -> dict[str, str]:
    """Return the key's header, if there is a key."""
    return {} if endpoint.api_key is None else {"authorization": f"Bearer {endpoint.api_key}"}


def steady(document: Any) -> Any:
    """Return the document without what changes from run to run; of the timings the counts stay."""
    if isinstance(document, list):
        return [steady(item) for item in document]
    if not isinstance(document, dict):
        return document
    kept = {name: steady(value) for name, value in document.items() if name not in VOLATILE}
    if "id" in document and document.get("object") == "model":
        kept["id"] = document["id"]
    if "timings" in kept:
        kept["timings"] = {name: value for name, value in kept["timings"].items() if name.endswith("_n")}
    return kept


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    sys.exit(trio.run(lambda: main(check=parser.parse_args().check)))
