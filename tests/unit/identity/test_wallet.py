"""Wallets from keys, phrases and files; and that none of them ever shows its key."""

import copy
import inspect
import io
import json
import logging
import pickle
import re
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import rich.console
import rich.pretty
import rich.traceback

from hostmesh.errors import HostmeshError, KeyFileError, UsageError
from hostmesh.identity.files import create_owner_file
from hostmesh.identity.keystore import create_wallet_file, read_wallet_file
from hostmesh.identity.secret import Secret, as_secret
from hostmesh.identity.structs import PeerBinding
from hostmesh.identity.typed_data import SECP256K1_ORDER
from hostmesh.identity.wallet import Wallet

# The phrase that Ethereum's development tools publish, with the accounts that they print for it.
PHRASE = "test test test test test test test test test test test junk"
ACCOUNTS = [
    ("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266", "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"),
    ("0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"),
    ("0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC", "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"),
]
ADDRESS, KEY = ACCOUNTS[0]


@pytest.mark.parametrize(("index", "address", "key"), [(i, *account) for i, account in enumerate(ACCOUNTS)])
def test_a_phrase_gives_the_accounts_that_others_derive(index: int, address: str, key: str) -> None:
    wallet = Wallet.from_mnemonic(PHRASE, index)
    assert wallet.address == address
    assert wallet.secret_key().reveal().hex() == key
    assert wallet == Wallet.from_private_key(key)


def test_a_phrase_may_have_odd_spaces() -> None:
    assert Wallet.from_mnemonic(Secret("  " + PHRASE.replace(" ", "\n  "))).address == ADDRESS


@pytest.mark.parametrize(
    "form",
    [KEY, "0x" + KEY, "0X" + KEY.upper(), bytes.fromhex(KEY), Secret(KEY)],
    ids=["hex", "0x", "0X", "raw", "secret"],
)
def test_a_private_key_has_these_forms(form: Secret | bytes | str) -> None:
    wallet = Wallet.from_private_key(form)
    assert wallet.address == ADDRESS
    assert wallet.address_bytes.hex() == ADDRESS[2:].lower()


BAD_KEYS = {
    "empty": "",
    "short": KEY[:-1],
    "long": KEY + "0",
    "no hex": "g" * 64,
    "zero": "0" * 64,
    "order": f"{SECP256K1_ORDER:064x}",
    "max": "f" * 64,
    "32 letters are no raw key": "x" * 32,
    "31 bytes": bytes(range(1, 32)),
    "33 bytes": bytes(range(1, 34)),
    "spaces": f" {KEY}",
}


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_another_form_is_refused(key: str | bytes) -> None:
    with pytest.raises(UsageError):
        Wallet.from_private_key(key)


def test_the_largest_key_is_a_key() -> None:
    Wallet.from_private_key(f"{SECP256K1_ORDER - 1:064x}")


@pytest.mark.parametrize(
    ("words", "index"),
    [
        (PHRASE.replace("junk", "test"), 0),
        ("", 0),
        ("hello world", 0),
        (PHRASE + " test", 0),
        (PHRASE, -1),
        (PHRASE, 2**31),
    ],
)
def test_another_phrase_is_refused(words: str, index: int) -> None:
    with pytest.raises(UsageError):
        Wallet.from_mnemonic(words, index)


def test_a_new_key_comes_from_the_random_bytes_and_never_from_a_bad_draw() -> None:
    draws = iter([bytes(32), b"\xff" * 32, bytes.fromhex(KEY)])
    assert Wallet.generate(lambda size: next(draws)).address == ADDRESS
    assert Wallet.generate() != Wallet.generate()
    with pytest.raises(UsageError, match="broken"):
        Wallet.generate(bytes)


def test_wallets_are_equal_by_address() -> None:
    one, same, other = (Wallet.from_private_key(key) for key in (KEY, "0x" + KEY, ACCOUNTS[1][1]))
    assert one == same
    assert one != other
    assert one != ADDRESS
    assert {one, same, other} == {one, other}


# --- nothing shows the key ---


def shapes_of(secret: str) -> list[str]:
    """The forms in which a key, a phrase or a password could show."""
    raw = bytes.fromhex(secret) if re.fullmatch("[0-9a-f]{64}", secret) else secret.encode()
    return [secret, raw.hex(), repr(raw)[2:-1], str(int.from_bytes(raw, "big"))]


def assert_hidden(text: str, secret: str) -> None:
    for shape in shapes_of(secret):
        assert shape not in text
        assert shape.upper() not in text.upper()


def render(wallet: Wallet) -> str:
    return wallet.secret_key().reveal().hex()


def test_the_check_for_leaks_finds_one() -> None:
    with pytest.raises(AssertionError):
        assert_hidden(f"key={render(Wallet.from_private_key(KEY))}", KEY)
    with pytest.raises(AssertionError):
        assert_hidden(repr({"key": bytes.fromhex(KEY)}), KEY)


def test_a_wallet_shows_its_address_only() -> None:
    wallet = Wallet.from_private_key(KEY)
    console = rich.console.Console(file=io.StringIO(), width=200)
    console.print(wallet, {"wallet": [wallet]})
    rich.inspect(wallet, console=console, private=True, dunder=True, all=True)
    record = logging.LogRecord("hostmesh", logging.INFO, __file__, 1, "%s %r", (wallet, wallet), None)
    texts = [
        repr(wallet),
        str(wallet),
        f"{wallet}",
        repr([wallet]),
        record.getMessage(),
        rich.pretty.pretty_repr(wallet),
        console.file.getvalue(),  # type: ignore[attr-defined]
        repr(inspect.getmembers(wallet)),
        json.dumps({"wallet": wallet}, default=repr),
    ]
    assert ADDRESS in repr(wallet)
    for text in texts:
        assert_hidden(text, KEY)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("thing", [Wallet.from_private_key(KEY), Secret(KEY)], ids=["wallet", "secret"])
def test_a_wallet_is_not_pickled(thing: object, protocol: int) -> None:
    with pytest.raises(UsageError) as caught:
        pickle.dumps(thing, protocol)
    assert_hidden(str(caught.value), KEY)


def test_a_copy_of_a_wallet_is_the_wallet() -> None:
    wallet = Wallet.from_private_key(KEY)
    assert copy.copy(wallet) is wallet
    assert copy.deepcopy([wallet])[0] is wallet
    secret = Secret(KEY)
    assert copy.copy(secret) is copy.deepcopy(secret) is secret


def leaks(call: Callable[[], object]) -> str:
    """Return everything that tracebacks with locals print of a failing call, chains included."""
    try:
        call()
    except HostmeshError as error:
        console = rich.console.Console(file=io.StringIO(), width=300)
        console.print(
            rich.traceback.Traceback.from_exception(
                type(error),
                error,
                error.__traceback__,
                show_locals=True,
                locals_max_string=None,
                locals_max_length=None,
            )
        )
        parts = ["".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())]
        parts.append(console.file.getvalue())  # type: ignore[attr-defined]
        # What is suppressed in print is still there for a debugger: walk it too.
        seen: BaseException | None = error
        while seen is not None:
            parts.append(repr(seen) + repr(seen.args) + repr(vars(seen)))
            frame = seen.__traceback__
            while frame is not None:
                # The frames of this test hold the secret by its nature; those of the code under test must not.
                if "hostmesh" in frame.tb_frame.f_globals.get("__name__", ""):
                    parts.append(repr(frame.tb_frame.f_locals))
                assert not frame.tb_frame.f_globals.get("__name__", "").startswith(("eth_", "coincurve", "Crypto"))
                frame = frame.tb_next
            seen = seen.__cause__ or seen.__context__
        return "\n".join(parts)
    raise AssertionError("the call did not fail")


# The secrets stand in these, so that the failing call's own frame in the test does not name them.
SECRETS = {
    "key": KEY,
    "password": "correct-horse-battery",
    "phrase": PHRASE.replace("junk", "zzz"),
    "almost": KEY[:-1] + "g",
}


def failing_calls(tmp_path: Path) -> dict[str, tuple[str, Callable[[], object]]]:
    taken = tmp_path / "taken.json"
    create_wallet_file(taken, password=SECRETS["password"], scrypt_n=2)
    raw = tmp_path / "raw.key"
    create_wallet_file(raw, password=None, wallet=Wallet.from_private_key(SECRETS["key"]))
    wide = tmp_path / "wide.key"
    create_owner_file(wide, Secret(SECRETS["almost"]))
    huge = tmp_path / "huge.key"
    create_owner_file(huge, Secret(SECRETS["key"] * 1100))
    wallet = Wallet.from_private_key(SECRETS["key"])
    struct = PeerBinding(operator=bytes(20), peer_id=b"x", issued_at_unix_s=0, expires_at_unix_s=1, revocation_epoch=0)
    broken = tmp_path / "broken.json"
    document = json.loads(taken.read_text())
    document["crypto"]["cipherparams"]["iv"] = "zz"
    create_owner_file(broken, Secret(json.dumps(document)))
    return {
        "bad key": ("almost", lambda: Wallet.from_private_key(SECRETS["almost"])),
        "bad raw key": ("key", lambda: Wallet.from_private_key(bytes.fromhex(SECRETS["key"]) + b"\0")),
        "bad phrase": ("phrase", lambda: Wallet.from_mnemonic(SECRETS["phrase"])),
        "bad index": ("phrase", lambda: Wallet.from_mnemonic(SECRETS["phrase"], -1)),
        "wrong password": ("password", lambda: read_wallet_file(taken, lambda: SECRETS["password"] + "!")),
        "broken file": ("password", lambda: read_wallet_file(broken, lambda: SECRETS["password"])),
        "wrong password, by wallet": ("password", lambda: Wallet.from_keystore(taken, SECRETS["password"] + "!")),
        "path taken": ("key", lambda: create_wallet_file(taken, password=None, wallet=wallet)),
        "exclusive": ("key", lambda: create_owner_file(raw, Secret(SECRETS["key"]))),
        "bad work": ("password", lambda: create_wallet_file(tmp_path / "n", password=SECRETS["password"], scrypt_n=3)),
        "no such directory": ("key", lambda: create_wallet_file(raw / "x", password=None, wallet=wallet)),
        "bad file": ("almost", lambda: read_wallet_file(wide)),
        "huge file": ("key", lambda: read_wallet_file(huge)),
        "signing": ("key", lambda: wallet.sign(struct, "")),
        "no text": ("key", lambda: Secret(b"\xff" + SECRETS["key"].encode()).reveal_text()),
    }


CASES = [
    "bad key", "bad raw key", "bad phrase", "bad index", "wrong password", "broken file", "wrong password, by wallet",
    "path taken", "exclusive", "bad work", "no such directory", "bad file", "huge file", "signing", "no text",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_no_traceback_with_locals_shows_a_secret(case: str, tmp_path: Path) -> None:
    calls = failing_calls(tmp_path)
    assert list(calls) == CASES
    name, call = calls[case]
    text = leaks(call)
    assert "Error" in text
    assert_hidden(text, SECRETS[name])


def test_a_secret_compares_and_hides() -> None:
    secret = Secret("pässword")
    assert secret == as_secret("pässword") == Secret("pässword".encode())
    assert as_secret(secret) is secret
    assert secret != Secret("password")
    assert secret != "pässword"
    assert len(secret) == 9
    assert secret.reveal_text() == "pässword"
    assert "pässword" not in f"{secret!r} {secret} {secret:}"
    with pytest.raises(TypeError):
        hash(secret)


def test_a_wallet_file_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(KeyFileError) as caught:
        Wallet.from_keystore(path, "x")
    assert caught.value.path == str(path)
    assert caught.value.remedy
