"""Wallet files: the published vectors, what is refused, and how they are made."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from eth_account import Account

from hostmesh.errors import KeyFileError, UsageError
from hostmesh.identity import keystore
from hostmesh.identity.files import create_owner_file
from hostmesh.identity.keystore import create_wallet_file, load_wallet, new_wallet, read_wallet_file
from hostmesh.identity.secret import Secret
from hostmesh.identity.wallet import Wallet

# Web3 Secret Storage Definition, "Test Vectors": one key under "testpassword".
VECTOR_KEY = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
PBKDF2: dict[str, Any] = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
        "kdf": "pbkdf2",
        "kdfparams": {
            "c": 262144,
            "dklen": 32,
            "prf": "hmac-sha256",
            "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
        },
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}
SCRYPT: dict[str, Any] = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "83dbcc02d8ccb40e466191a123791e0e"},
        "ciphertext": "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c",
        "kdf": "scrypt",
        "kdfparams": {
            "dklen": 32,
            "n": 262144,
            "r": 1,
            "p": 8,
            "salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19",
        },
        "mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}


def write(path: Path, document: object) -> Path:
    text = document if isinstance(document, str) else json.dumps(document)
    create_owner_file(path, Secret(text))
    return path


@pytest.mark.parametrize("document", [PBKDF2, SCRYPT], ids=["pbkdf2", "scrypt"])
def test_the_published_files_open(document: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "wallet.json", document)
    assert read_wallet_file(path, lambda: "testpassword") == Wallet.from_private_key(VECTOR_KEY)


@pytest.fixture
def quick(tmp_path: Path) -> dict[str, Any]:
    """A keystore that opens in no time, for changing."""
    path = tmp_path / "quick.json"
    create_wallet_file(path, password="pw", wallet=Wallet.from_private_key(VECTOR_KEY), scrypt_n=2)
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def test_a_new_file_is_a_keystore_that_others_open(quick: dict[str, Any]) -> None:
    assert quick["version"] == 3
    assert quick["crypto"]["kdf"] == "scrypt"
    assert bytes(Account.decrypt(quick, "pw")).hex() == VECTOR_KEY


def test_a_new_file_takes_real_work_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETH_ACCOUNT_KDF", "pbkdf2")
    wallet = create_wallet_file(tmp_path / "w.json", password="pw")
    document = json.loads((tmp_path / "w.json").read_text())
    assert document["crypto"]["kdf"] == "scrypt"
    assert document["crypto"]["kdfparams"]["n"] == 262_144
    assert read_wallet_file(tmp_path / "w.json", lambda: "pw") == wallet


def test_a_raw_file_is_hex_and_asks_for_no_password(tmp_path: Path) -> None:
    wallet = create_wallet_file(tmp_path / "raw.key", password=None)
    assert bytes.fromhex((tmp_path / "raw.key").read_text().strip()) == wallet.secret_key().reveal()

    def never() -> str:
        raise AssertionError("asked for a password")

    assert read_wallet_file(tmp_path / "raw.key", never) == wallet


@pytest.mark.parametrize("text", [VECTOR_KEY, f"0x{VECTOR_KEY}\n", f"  {VECTOR_KEY.upper()}\r\n\n"])
def test_a_raw_file_may_be_written_by_hand(text: str, tmp_path: Path) -> None:
    assert read_wallet_file(write(tmp_path / "raw", text)) == Wallet.from_private_key(VECTOR_KEY)


@pytest.mark.parametrize("password", [None, "pw"])
def test_a_new_file_is_its_owners_alone(password: str | None, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "wallet"
    create_wallet_file(path, password=password, scrypt_n=2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["wallet"]


def test_the_key_of_a_new_file_comes_from_the_random_bytes(tmp_path: Path) -> None:
    wallet = create_wallet_file(tmp_path / "w", password=None, random_bytes=lambda size: bytes.fromhex(VECTOR_KEY))
    assert wallet == Wallet.from_private_key(VECTOR_KEY)


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "wallet"
    first = create_wallet_file(path, password=None)
    before = path.read_bytes()
    for password in (None, "pw"):
        with pytest.raises(KeyFileError, match="exists already"):
            create_wallet_file(path, password=password, scrypt_n=2)
    assert path.read_bytes() == before
    assert read_wallet_file(path) == first


def test_a_taken_path_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wallet").symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr(keystore, "_encrypt", lambda *_: pytest.fail("worked for nothing"))
    with pytest.raises(KeyFileError, match="exists already"):
        create_wallet_file(tmp_path / "wallet", password="pw")


def test_an_empty_password_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        create_wallet_file(tmp_path / "wallet", password="")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n", [0, 1, 3, 1000])
def test_a_work_that_scrypt_does_not_know_is_refused(n: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        create_wallet_file(tmp_path / "wallet", password="pw", scrypt_n=n)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("password", ["", "PW", "pw ", "pẅ"])
def test_a_wrong_password_is_said_to_be_wrong(password: str, quick: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "wallet", quick)
    with pytest.raises(KeyFileError, match="password does not open") as caught:
        read_wallet_file(path, lambda: password)
    assert caught.value.path == str(path)


def test_a_keystore_without_a_password_asks_for_one(quick: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="needs a password"):
        read_wallet_file(write(tmp_path / "wallet", quick))


def put(*path_and_value: Any) -> Callable[[dict[str, Any]], None]:
    *path, value = path_and_value

    def change(document: dict[str, Any]) -> None:
        for name in path[:-1]:
            document = document[name]
        if value is None:
            del document[path[-1]]
        else:
            document[path[-1]] = value

    return change


NO_WALLET = {
    "other version": put("version", 4),
    "no version": put("version", None),
    "no crypto": put("crypto", None),
    "crypto is text": put("crypto", "x"),
    "no parameters": put("crypto", "kdfparams", None),
    "no ciphertext": put("crypto", "ciphertext", None),
    "no mac": put("crypto", "mac", None),
    "mac is a number": put("crypto", "mac", 5),
    "ciphertext is no hex": put("crypto", "ciphertext", "zz"),
    "iv is no hex": put("crypto", "cipherparams", "iv", "zz"),
    "iv is missing": put("crypto", "cipherparams", None),
    "salt is no hex": put("crypto", "kdfparams", "salt", "zz"),
    "salt is a list": put("crypto", "kdfparams", "salt", [1]),
    "another address": put("address", "00" * 20),
    "address is a number": put("address", 1),
}


@pytest.mark.parametrize("change", NO_WALLET.values(), ids=NO_WALLET.keys())
def test_a_damaged_keystore_is_no_wallet(
    change: Callable[[dict[str, Any]], None], quick: dict[str, Any], tmp_path: Path
) -> None:
    change(quick)
    with pytest.raises(KeyFileError, match="holds no wallet"):
        read_wallet_file(write(tmp_path / "wallet", quick), lambda: "pw")


TOO_MUCH = {
    "memory": ("scrypt", {"n": 2**40, "r": 8, "p": 1, "dklen": 32, "salt": "00"}),
    "block": ("scrypt", {"n": 2, "r": 2**30, "p": 1, "dklen": 32, "salt": "00"}),
    "lanes": ("scrypt", {"n": 2, "r": 8, "p": 17, "dklen": 32, "salt": "00"}),
    "no work": ("scrypt", {"n": 0, "r": 8, "p": 1, "dklen": 32, "salt": "00"}),
    "text": ("scrypt", {"n": "262144", "r": 8, "p": 1, "dklen": 32, "salt": "00"}),
    "rounds": ("pbkdf2", {"c": 10**9, "prf": "hmac-sha256", "dklen": 32, "salt": "00"}),
    "length": ("pbkdf2", {"c": 1, "prf": "hmac-sha256", "dklen": 2**40, "salt": "00"}),
    "unknown": ("argon9", {"dklen": 32}),
}


@pytest.mark.parametrize(("kdf", "parameters"), TOO_MUCH.values(), ids=TOO_MUCH.keys())
def test_a_keystore_cannot_exhaust_the_machine(
    kdf: str, parameters: dict[str, Any], quick: dict[str, Any], tmp_path: Path
) -> None:
    quick["crypto"].update(kdf=kdf, kdfparams=parameters)
    with pytest.raises(KeyFileError, match="more memory or time"):
        read_wallet_file(write(tmp_path / "wallet", quick), lambda: "pw")


@pytest.mark.parametrize(
    "text",
    ["", "{", "{}", "[]", '{"version": 3}', "null", "hello", VECTOR_KEY[:-1], VECTOR_KEY * 2, "0" * 64, "[" * 20000],
)
def test_a_file_of_another_kind_is_no_wallet(text: str, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="holds no wallet"):
        read_wallet_file(write(tmp_path / "file", text), lambda: "pw")


def test_a_file_of_32_bytes_is_no_wallet(tmp_path: Path) -> None:
    create_owner_file(tmp_path / "file", Secret(bytes.fromhex(VECTOR_KEY)))
    with pytest.raises(KeyFileError, match="holds no wallet"):
        read_wallet_file(tmp_path / "file")


# --- in a trio task ---


async def test_scrypt_leaves_the_loop_free(tmp_path: Path) -> None:
    """The loop turns many times while the work goes on elsewhere: it could not turn once if it were done here."""
    path = tmp_path / "wallet"
    turns = 0
    done = trio.Event()

    async def turn() -> None:
        nonlocal turns
        while not done.is_set():
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turn)
        made = await new_wallet(path, password="pw")
        turns_to_write, turns = turns, 0
        opened = await load_wallet(path, lambda: "pw")
        done.set()
    assert made == opened
    assert min(turns_to_write, turns) > 100


async def test_the_password_is_asked_in_the_calling_task(quick: dict[str, Any], tmp_path: Path) -> None:
    task = trio.lowlevel.current_task()
    asked: list[bool] = []

    def ask() -> Secret:
        asked.append(trio.lowlevel.current_task() is task)
        return Secret("pw")

    assert (await load_wallet(write(tmp_path / "wallet", quick), ask)).secret_key() == Secret(bytes.fromhex(VECTOR_KEY))
    assert asked == [True]


async def test_the_task_forms_fail_alike(quick: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "wallet", quick)
    with pytest.raises(KeyFileError, match="needs a password"):
        await load_wallet(path)
    with pytest.raises(KeyFileError, match="password does not open"):
        await load_wallet(path, lambda: "no")
    with pytest.raises(KeyFileError, match="exists already"):
        await new_wallet(path, password="pw")
    raw = await new_wallet(tmp_path / "raw", password=None)
    assert await load_wallet(tmp_path / "raw") == raw
