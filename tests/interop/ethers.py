"""ethers.js in a process of its own, asked by JSON lines; see ``js-ethers/ethers.mjs``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.support.typed_values import eip712_domain, eip712_message, eip712_types

from hostmesh.identity.typed_data import TypedStruct


class Ethers:
    """The process, which answers one question after the other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, command: str, **values: Any) -> dict[str, Any]:
        """Return the answer.

        Raises:
            AssertionError: ethers refuses; says with what error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"cmd": command, **values}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert answer.pop("ok"), answer["error"]
        return answer

    def hash(self, struct: TypedStruct, network: str) -> dict[str, str]:
        """Return ethers' encodeType, domain separator, hash of the structure, and digest."""
        return self.ask("hash", primaryType=struct.TYPE_NAME, **_typed(struct, network))

    def sign(self, struct: TypedStruct, network: str, key: bytes) -> bytes:
        """Return the signature that ethers makes with a key."""
        answer = self.ask("sign", **_typed(struct, network), key="0x" + key.hex())
        return bytes.fromhex(answer["signature"].removeprefix("0x"))

    def recover(self, struct: TypedStruct, network: str, signature: bytes) -> str:
        """Return the address, in its mixed case, that ethers finds to have signed."""
        signer: str = self.ask("recover", **_typed(struct, network), signature="0x" + signature.hex())["signer"]
        return signer


def _typed(struct: TypedStruct, network: str) -> dict[str, Any]:
    return {
        "domain": eip712_domain(network),
        "types": eip712_types(type(struct)),
        "message": eip712_message(struct),
    }


@contextmanager
def running_ethers(command: Sequence[str]) -> Iterator[Ethers]:
    """Run the program that :func:`tests.interop.js_peer.prepare_ethers` prepared."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", bufsize=1
    ) as process:
        try:
            yield Ethers(process)
        finally:
            process.kill()
