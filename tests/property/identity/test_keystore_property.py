"""Whatever stands in a wallet or binding file, reading it gives a wallet or a KeyFileError."""

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.errors import KeyFileError
from hostmesh.identity.binding import load_binding, save_binding, sign_binding
from hostmesh.identity.files import create_owner_file
from hostmesh.identity.keystore import create_wallet_file, read_wallet_file
from hostmesh.identity.secret import Secret
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_id import peer_id_from_public_key

WALLET = Wallet.from_private_key("4c" * 32)
PEER = peer_id_from_public_key(bytes(range(32)))

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=70),
    lambda children: st.lists(children, max_size=2) | st.dictionaries(st.text(max_size=5), children, max_size=2),
    max_leaves=4,
)


def paths(document: Any, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [prefix] if prefix else []
    if isinstance(document, dict):
        for name, value in document.items():
            found += paths(value, (*prefix, name))
    return found


def mutated(document: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    for path in data.draw(st.lists(st.sampled_from(paths(document)), min_size=1, max_size=2)):
        parent: Any = document
        for name in path[:-1]:
            parent = parent.get(name) if isinstance(parent, dict) else None
        if isinstance(parent, dict):
            if data.draw(st.booleans()):
                parent[path[-1]] = data.draw(values)
            else:
                parent.pop(path[-1], None)
    return document


@given(data=st.data())
def test_a_mutated_keystore_is_the_wallet_or_refused(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "wallet.json"
        create_wallet_file(path, password="pw", wallet=WALLET, scrypt_n=2)
        document = mutated(json.loads(path.read_text()), data)
        path.write_text(json.dumps(document))
        try:
            opened = read_wallet_file(path, lambda: "pw")
        except KeyFileError:
            return
        assert opened == WALLET


@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_wallet_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "wallet"
        create_owner_file(path, Secret(content))
        try:
            read_wallet_file(path, lambda: "pw")
        except KeyFileError:
            return
        # Only what a person would call a key in hex.
        assert len(content.strip().removeprefix(b"0x").removeprefix(b"0X")) == 64


@given(
    key=st.integers(1, 2**255).map(lambda number: number.to_bytes(32, "big")), password=st.text(min_size=1, max_size=20)
)
def test_a_wallet_survives_its_file_under_any_password(key: bytes, password: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        wallet = Wallet.generate(lambda size: key)
        create_wallet_file(Path(place) / "w", password=password, wallet=wallet, scrypt_n=2)
        assert read_wallet_file(Path(place) / "w", lambda: password).secret_key() == wallet.secret_key()


@given(data=st.data())
def test_a_mutated_binding_file_is_a_binding_or_refused(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "binding.json"
        save_binding(path, sign_binding(WALLET, PEER, network="net", now=1_700_000_000))
        path.write_text(json.dumps(mutated(json.loads(path.read_text()), data)))
        try:
            binding = load_binding(path)
        except KeyFileError:
            return
        assert len(binding.operator) == 20
        assert len(binding.signature) == 65
