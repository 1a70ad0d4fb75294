"""Writes tests/vectors/ethers.json, what ethers.js makes of each structure: ``python -m tests.interop.ethers_vectors``.

Whoever adds a structure to hostmesh.identity.structs runs it once; it needs npm. The unit tests then need neither.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.interop.ethers import Ethers, running_ethers
from tests.interop.js_peer import prepare_ethers
from tests.support.typed_values import boundary_structs, drawn_struct, eip712_message, eip712_types, struct_types

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "ethers.json"
KEY = bytes.fromhex("4c" * 32)
"""Public: it signs nothing but these."""
NETWORK = "hostmesh-test"
DRAWS = 1


def compute_vectors(ethers: Ethers) -> dict[str, Any]:
    """Return the content of the file. The same ethers gives the same, but for the wallet file, whose salt is drawn."""
    return {
        "made_by": f"ethers {ethers.ask('version')['version']}",
        "network": NETWORK,
        "private_key": "0x" + KEY.hex(),
        **_keystore(ethers),
        "structures": {kind.TYPE_NAME: _vectors(ethers, kind) for kind in struct_types()},
    }


def _keystore(ethers: Ethers) -> dict[str, Any]:
    password = "Käse 🧀 пароль"
    # Little work, so that a unit test can open it.
    keystore = ethers.ask("encrypt", key="0x" + KEY.hex(), password=password, scryptN=2)["keystore"]
    address = ethers.ask("decrypt", keystore=keystore, password=password)["address"]
    return {"keystore": keystore, "keystore_password": password, "keystore_address": address}


def _vectors(ethers: Ethers, kind: Any) -> dict[str, Any]:
    structs = [*boundary_structs(kind)[:2], *(drawn_struct(kind, seed) for seed in range(DRAWS))]
    hashes = [ethers.hash(struct, NETWORK) for struct in structs]
    return {
        "types": eip712_types(kind),
        "encode_type": hashes[0]["encodeType"],
        "domain_separator": hashes[0]["domainSeparator"],
        "signed": [
            {
                "message": eip712_message(struct),
                "digest": each["digest"],
                "signature": "0x" + ethers.sign(struct, NETWORK, KEY).hex(),
            }
            for struct, each in zip(structs, hashes, strict=True)
        ],
    }


if __name__ == "__main__":
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hostmesh-tests"
    with running_ethers(prepare_ethers(cache / "ethers")) as process:
        VECTORS.write_text(json.dumps(compute_vectors(process), indent=1) + "\n", encoding="utf-8")
