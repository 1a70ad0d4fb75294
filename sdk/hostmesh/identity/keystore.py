"""Wallet files: keystore V3 under a password, or a raw key in hex.

A raw file is 64 hex digits, with or without ``0x``, and a newline. A keystore is JSON after the Web3 Secret Storage
Definition, version 3, as Ethereum's clients write it. Both have mode 0600 and are never overwritten.

Opening a keystore costs a second of scrypt by design: :func:`load_wallet` and :func:`new_wallet` spend it in a worker
thread.

No library error is chained to ours here: the frames behind it hold passwords and keys, and a traceback with locals
would show them.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import trio

from hostmesh.errors import KeyFileError, UsageError
from hostmesh.identity.accounts import load_account
from hostmesh.identity.files import create_owner_file, read_owner_file
from hostmesh.identity.secret import Secret, as_secret
from hostmesh.identity.wallet import Wallet

DEFAULT_SCRYPT_N = 2**18
"""Work of a new keystore, as geth's standard: 256 MiB and about 1.5 s."""
MAX_SCRYPT_BYTES = 512 * 1024 * 1024
MAX_SCRYPT_P = 16
MAX_PBKDF2_ROUNDS = 10_000_000

PasswordProvider = Callable[[], Secret | str]
"""Asked for the password only when the file has one."""


def create_wallet_file(
    path: Path,
    *,
    password: Secret | str | None,
    wallet: Wallet | None = None,
    scrypt_n: int = DEFAULT_SCRYPT_N,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> Wallet:
    """Write a wallet to a new file.

    Args:
        path: where; missing directories are made with mode 0700, the file has 0600.
        password: encrypts it; None writes the raw key, which whoever reads the file can use.
        wallet: the wallet to write; None makes a new key.
        scrypt_n: work of the password; the default suits a person's wallet.
        random_bytes: source of a new key.

    Returns:
        The wallet, as it was written.

    Raises:
        KeyFileError: the path is taken, or cannot be written safely. Nothing was changed.
        UsageError: the password is empty, or ``scrypt_n`` no power of two between 2 and 2**19.

    Cost: about 1.6 s and 256 MiB with a password. Blocks; see :func:`new_wallet`.
    """
    secret = None if password is None else as_secret(password)
    del password
    if secret is not None and len(secret) == 0:
        raise UsageError("the password is empty", remedy="give a password, or choose a raw key file in so many words")
    if not 2 <= scrypt_n <= MAX_SCRYPT_BYTES // 1024 or scrypt_n & (scrypt_n - 1):
        raise UsageError("scrypt_n is a power of two, between 2 and 2**19")
    if os.path.lexists(path):  # before a second of work; the creation itself is exclusive too
        raise KeyFileError(
            f"{path} exists already and is not overwritten",
            path=str(path),
            remedy="choose another path, or move the existing file away yourself",
        )
    made = wallet if wallet is not None else Wallet.generate(random_bytes)
    if secret is None:
        create_owner_file(path, Secret(made.secret_key().reveal().hex() + "\n"))
    else:
        create_owner_file(path, _encrypt(made, secret, scrypt_n))
    return made


def read_wallet_file(path: Path, password: PasswordProvider | None = None) -> Wallet:
    """Return the wallet in a file.

    Args:
        path: the file itself, the user's own and readable by nobody else.
        password: asked once, only when the file is a keystore.

    Raises:
        KeyFileError: the file is not safe to use, is no wallet, needs a password that was not given, or the password is
            wrong. ``remedy`` says what to do. It holds nothing of the content.

    Cost: about 1.4 s for a keystore. Blocks; see :func:`load_wallet`.
    """
    content = read_owner_file(path)
    if not _is_keystore(content):
        return _raw_wallet(content, path)
    if password is None:
        raise _needs_password(path)
    return _decrypt(content, as_secret(password()), path)


async def load_wallet(path: Path, password: PasswordProvider | None = None) -> Wallet:
    """Like :func:`read_wallet_file`, with files and scrypt in a worker thread.

    ``password`` is called in the calling task, which it may block (a prompt): a worker thread could not be interrupted.

    Cancellation: safe; waits for the thread, 2 s at most.
    """
    content = await trio.to_thread.run_sync(read_owner_file, path)
    if not _is_keystore(content):
        return _raw_wallet(content, path)
    if password is None:
        raise _needs_password(path)
    return await trio.to_thread.run_sync(_decrypt, content, as_secret(password()), path)


async def new_wallet(path: Path, *, password: Secret | str | None, wallet: Wallet | None = None) -> Wallet:
    """Like :func:`create_wallet_file`, in a worker thread.

    Cancellation: waits for the thread; the file then exists, whole.
    """
    secret = None if password is None else as_secret(password)
    del password
    return await trio.to_thread.run_sync(lambda: create_wallet_file(path, password=secret, wallet=wallet))


def _is_keystore(content: Secret) -> bool:
    return content.reveal().lstrip()[:1] == b"{"


def _raw_wallet(content: Secret, path: Path) -> Wallet:
    wallet: Wallet | None = None
    with contextlib.suppress(UsageError):
        wallet = Wallet.from_private_key(Secret(content.reveal().strip()))
    if wallet is None:
        raise _no_wallet(path)
    return wallet


def _encrypt(wallet: Wallet, password: Secret, scrypt_n: int) -> Secret:
    account = load_account()

    document = account.encrypt(wallet.secret_key().reveal(), password.reveal_text(), kdf="scrypt", iterations=scrypt_n)
    return Secret(json.dumps(document, indent=2) + "\n")


def _decrypt(content: Secret, password: Secret, path: Path) -> Wallet:
    account = load_account()

    document = _parse(content, path)
    key: Secret | None = None
    malformed = False
    try:
        key = Secret(account.decrypt(document, password.reveal_text()))
    except ValueError as error:
        malformed = str(error) != "MAC mismatch"
    except (KeyError, TypeError, AttributeError, OverflowError, NotImplementedError, MemoryError):
        malformed = True
    if malformed:
        raise _no_wallet(path)
    if key is None:
        raise KeyFileError(
            f"the password does not open {path}", path=str(path), remedy="try again with the password of this file"
        )
    wallet: Wallet | None = None
    with contextlib.suppress(UsageError):
        wallet = Wallet(key)
    if wallet is None or not _names(document, wallet):
        raise _no_wallet(path)
    return wallet


def _parse(content: Secret, path: Path) -> dict[str, object]:
    """Decode a keystore, and refuse one whose work would exhaust this machine."""
    document: object = None
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(content.reveal())
    if not isinstance(document, dict):
        raise _no_wallet(path)
    crypto = document.get("crypto", document.get("Crypto"))
    parameters = crypto.get("kdfparams") if isinstance(crypto, dict) else None
    if document.get("version") != 3 or not isinstance(crypto, dict) or not isinstance(parameters, dict):
        raise _no_wallet(path)
    if not _affordable(crypto.get("kdf"), parameters):
        raise KeyFileError(
            f"opening {path} would take more memory or time than any wallet should",
            path=str(path),
            remedy="write the key to a new wallet file",
        )
    return document


def _affordable(kdf: object, parameters: Mapping[str, object]) -> bool:
    def number(name: str) -> int:
        value = parameters.get(name)
        return value if isinstance(value, int) and value > 0 else 0

    if number("dklen") != 32:
        return False
    if kdf == "scrypt":
        n, r, p = number("n"), number("r"), number("p")
        return n * r * p > 0 and 128 * n * r <= MAX_SCRYPT_BYTES and p <= MAX_SCRYPT_P
    return kdf == "pbkdf2" and 0 < number("c") <= MAX_PBKDF2_ROUNDS


def _names(document: Mapping[str, object], wallet: Wallet) -> bool:
    """Whether the address in the file, where it has one, is the key's."""
    stated = document.get("address")
    return stated is None or (
        isinstance(stated, str) and stated.lower().removeprefix("0x") == wallet.address_bytes.hex()
    )


def _no_wallet(path: Path) -> KeyFileError:
    return KeyFileError(
        f"{path} holds no wallet",
        path=str(path),
        remedy="give a keystore V3 file or a file of 64 hex digits; `hostmesh wallet new` makes one",
    )


def _needs_password(path: Path) -> KeyFileError:
    return KeyFileError(
        f"{path} needs a password", path=str(path), remedy="give its password by prompt, file or descriptor"
    )
