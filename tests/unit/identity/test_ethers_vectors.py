"""EIP-712 and wallet files against what ethers.js computed; tests/interop/ethers_vectors.py wrote the constants."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.typed_values import boundary_structs, eip712_types, struct_of_message, struct_types

from hostmesh.errors import UsageError
from hostmesh.identity.address import parse_address
from hostmesh.identity.files import create_owner_file
from hostmesh.identity.keystore import read_wallet_file
from hostmesh.identity.secret import Secret
from hostmesh.identity.typed_data import (
    MAX_ITEMS,
    TypedStruct,
    domain_separator,
    recover_signer,
    type_string,
    typed_digest,
)
from hostmesh.identity.wallet import Wallet

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "ethers.json").read_text("utf-8"))
NETWORK: str = VECTORS["network"]
WALLET = Wallet.from_private_key(VECTORS["private_key"])
KINDS = struct_types()
WITH_ARRAYS = [kind for kind in KINDS if any(field.endswith("[]") for field, _, _ in kind.FIELDS)]


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def test_every_structure_has_vectors() -> None:
    missing = {kind.TYPE_NAME for kind in KINDS} ^ set(VECTORS["structures"])
    assert not missing, "a structure changed: look at it, then run python -m tests.interop.ethers_vectors"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.TYPE_NAME)
def test_the_types_are_those_that_ethers_was_given(kind: type[TypedStruct]) -> None:
    vectors = VECTORS["structures"][kind.TYPE_NAME]
    assert eip712_types(kind) == vectors["types"]
    assert type_string(kind) == vectors["encode_type"]
    assert domain_separator(NETWORK) == unhex(vectors["domain_separator"])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.TYPE_NAME)
def test_digests_and_signatures_are_those_of_ethers(kind: type[TypedStruct]) -> None:
    for vector in VECTORS["structures"][kind.TYPE_NAME]["signed"]:
        struct = struct_of_message(kind, vector["message"])
        signature = unhex(vector["signature"])
        assert typed_digest(struct, NETWORK) == unhex(vector["digest"])
        assert recover_signer(struct, signature, NETWORK) == WALLET.address_bytes
        assert WALLET.sign(struct, NETWORK) == signature


@pytest.mark.parametrize("kind", WITH_ARRAYS, ids=lambda kind: kind.TYPE_NAME)
def test_an_array_has_1_to_32_items(kind: type[TypedStruct]) -> None:
    """ethers would sign any number."""
    struct: Any = boundary_structs(kind)[0]
    values = {attribute: getattr(struct, attribute) for _, _, attribute in kind.FIELDS}
    for attribute in (attribute for field, _, attribute in kind.FIELDS if field.endswith("[]")):
        for items in ((), values[attribute] * (MAX_ITEMS + 1)):
            with pytest.raises(UsageError, match=attribute):
                kind(**{**values, attribute: items})


def test_a_wallet_file_of_ethers_opens(tmp_path: Path) -> None:
    create_owner_file(tmp_path / "wallet.json", Secret(VECTORS["keystore"]))
    wallet = read_wallet_file(tmp_path / "wallet.json", lambda: VECTORS["keystore_password"])
    assert wallet.address_bytes == parse_address(VECTORS["keystore_address"]) == WALLET.address_bytes
