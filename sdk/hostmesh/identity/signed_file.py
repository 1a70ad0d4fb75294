"""What a wallet signed, as a JSON file that a person can read: bindings, revocations, delegations.

Nothing in it is secret; it can be signed on one machine and carried to another. Who reads one verifies it: here it is
decoded only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hostmesh.errors import InvalidAddressError, KeyFileError, MalformedMessageError, UsageError
from hostmesh.identity.files import read_owner_file, replace_owner_file
from hostmesh.identity.secret import Secret

_VERSION = 1
Message = TypeVar("Message")


def save_signed(path: Path, document: Mapping[str, object]) -> None:
    """Write a document, atomically in place of an older one.

    Raises:
        KeyFileError: the file cannot be written. An older one is untouched.
    """
    replace_owner_file(path, Secret(json.dumps({"version": _VERSION, **document}, indent=2) + "\n"))


def load_signed(path: Path, decode: Callable[[Any], Message], *, what: str, remedy: str) -> Message:
    """Return what a file holds.

    Args:
        path: the file.
        decode: makes a message of the document, and checks its bounds.
        what: names it in errors: ``no binding``.
        remedy: what to do about a file that is none.

    Raises:
        KeyFileError: missing, unsafe, or none of a version that this program knows.
    """
    content = read_owner_file(path, private=False)
    try:
        return decode(_known(json.loads(content.reveal())))
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        UsageError,
        InvalidAddressError,
        MalformedMessageError,
    ) as error:
        raise KeyFileError(f"{path} holds {what}", path=str(path), remedy=remedy) from error


def _known(document: Any) -> Any:
    if document["version"] != _VERSION:
        raise ValueError("another version")
    return document


def signature_to_text(signature: bytes) -> str:
    """Return it as such a document has it, ``0x`` in front."""
    return "0x" + signature.hex()


def signature_from_text(text: str) -> bytes:
    """Return the bytes of a document's signature.

    Raises:
        ValueError: it is not hexadecimal.
    """
    return bytes.fromhex(text.removeprefix("0x"))
