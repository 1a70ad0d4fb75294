"""What real engines answered: recorded.json, read for tests/engines/recorded_engine.py."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("recorded.json")
TEMPLATE_TOKENS = 30
"""What a chat template adds to a prompt that was not recorded; about that of SmolLM2."""


class Recording:
    """A recorded prompt has its own answer; another has the one that its hash picks, so that it is always the same."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._chats: list[dict[str, Any]] = document["chats"]
        self._embeddings: list[dict[str, Any]] = document["embeddings"]
        self.errors: dict[str, Any] = document["errors"]
        self.listed: dict[str, Any] = document["models"]["body"]["data"][0]

    @classmethod
    def load(cls) -> Recording:
        return cls(json.loads(RECORDED.read_text(encoding="utf-8")))

    def pick(self, messages: list[dict[str, str]]) -> dict[str, Any]:
        for chat in self._chats:
            if chat["request"]["messages"] == messages:
                return chat
        return self._chats[hash_of(json.dumps(messages)) % len(self._chats)]

    def pick_embedding(self, text: str) -> dict[str, Any]:
        for entry in self._embeddings:
            if entry["text"] == text:
                return entry
        return self._embeddings[hash_of(text) % len(self._embeddings)]

    def count_tokens(self, text: str) -> int:
        """As recorded, where it is; else its words, and for a prompt those of a template."""
        for chat in self._chats:
            if text == json.dumps(chat["request"]["messages"]):
                return int(chat["template_tokens"])
            if text == chat["answer"]["choices"][0]["message"]["content"]:
                return int(chat["answer"]["usage"]["completion_tokens"])
        for entry in self._embeddings:
            if text == entry["text"]:
                return len(entry["tokens"])
        return len(text.split()) + (TEMPLATE_TOKENS if text.startswith("[{") else 0)


def event_text(event: Any) -> str | None:
    """Return the text of a streamed event, if it has any."""
    if not isinstance(event, dict) or not event["choices"]:
        return None
    text: str | None = event["choices"][0]["delta"].get("content")
    return text


def recorded_tokens(chat: dict[str, Any]) -> int:
    """Return how many pieces of text a recorded chat has."""
    return sum(1 for event in chat["events"] if event_text(event))


def hash_of(text: str) -> int:
    """Return the same number for the same text, in every run."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
