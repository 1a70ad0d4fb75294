"""The wallet: the secp256k1 key that signs bindings and session authorisations.

The key never shows: not in ``repr``, logs, tracebacks with locals, pickles or copies.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from hostmesh.errors import UsageError
from hostmesh.identity.accounts import load_account
from hostmesh.identity.address import address_to_text
from hostmesh.identity.secret import REDACTED, Secret, as_secret
from hostmesh.identity.typed_data import SECP256K1_ORDER, TypedStruct, address_of_public_key, typed_digest

PRIVATE_KEY_BYTES = 32
MAX_ACCOUNT_INDEX = 2**31 - 1
_DRAWS = 4
_HEX_KEY = re.compile(rb"(0[xX])?[0-9a-fA-F]{64}\Z")


def wrap_private_key(value: Secret | str | bytes) -> Secret:
    """Wrap a private key in the one form that :meth:`Wallet.from_private_key` takes wrapped: as text."""
    if isinstance(value, bytes) and len(value) == PRIVATE_KEY_BYTES:
        return Secret(value.hex())
    return as_secret(value)


class Wallet:
    """A local signer. Make one with a ``from_...`` method or :meth:`generate`.

    Two wallets are equal when their addresses are.
    """

    __slots__ = ("_address_bytes", "_secret")

    def __init__(self, private_key: Secret) -> None:
        """Take a checked key; use :meth:`from_private_key`.

        Raises:
            UsageError: not 32 bytes, or not between 1 and the order of the curve.
        """
        if len(private_key) != PRIVATE_KEY_BYTES or not (
            0 < int.from_bytes(private_key.reveal(), "big") < SECP256K1_ORDER
        ):
            raise UsageError("not a secp256k1 private key", remedy="give 32 bytes, or 64 hex digits")
        from coincurve import PublicKey

        self._secret = private_key
        public_key = PublicKey.from_valid_secret(private_key.reveal())
        self._address_bytes = address_of_public_key(public_key.format(compressed=False))

    @classmethod
    def generate(cls, random_bytes: Callable[[int], bytes] = os.urandom) -> Wallet:
        """Return a wallet with a new key.

        Args:
            random_bytes: source of 32 unpredictable bytes.

        Raises:
            UsageError: the source gives no key.
        """
        # All but 1 in 2**128 draws are keys.
        for _ in range(_DRAWS):
            candidate = Secret(random_bytes(PRIVATE_KEY_BYTES))
            if 0 < int.from_bytes(candidate.reveal(), "big") < SECP256K1_ORDER:
                return cls(candidate)
        raise UsageError("the source of random bytes is broken: it gives no key")

    @classmethod
    def from_private_key(cls, private_key: Secret | bytes | str) -> Wallet:
        """Return the wallet of a raw key.

        Args:
            private_key: 32 raw ``bytes``, or text (also in a :class:`Secret`): 64 hex digits, with or without ``0x``.

        Raises:
            UsageError: another form. The error does not repeat the value.

        >>> Wallet.from_private_key("0x" + "11" * 32)
        Wallet(0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A, <redacted>)
        """
        is_raw = isinstance(private_key, bytes) and len(private_key) == PRIVATE_KEY_BYTES
        secret = as_secret(private_key)
        # From here on no local of this frame holds the key in the clear.
        del private_key
        if is_raw:
            return cls(secret)
        if not _HEX_KEY.match(secret.reveal()):
            raise UsageError("not a private key", remedy="give 32 bytes, or 64 hex digits")
        return cls(Secret(bytes.fromhex(secret.reveal_text()[-64:])))

    @classmethod
    def from_keystore(cls, path: Path | str, password: Secret | str | None = None) -> Wallet:
        """Return the wallet of a key file. See :func:`hostmesh.identity.keystore.read_wallet_file`.

        Cost: blocks for about 1.4 s while scrypt runs; in a trio task use
        :func:`hostmesh.identity.keystore.load_wallet`.
        """
        from hostmesh.identity.keystore import read_wallet_file

        secret = None if password is None else as_secret(password)
        del password
        return read_wallet_file(Path(path), None if secret is None else lambda: secret)

    @classmethod
    def from_mnemonic(cls, words: Secret | str, account_index: int = 0) -> Wallet:
        """Return a wallet of a BIP-39 phrase, at path ``m/44'/60'/0'/0/account_index``.

        Args:
            words: the phrase, in a language that BIP-39 has a list for.
            account_index: which account of the phrase, from 0.

        Raises:
            UsageError: not a valid phrase, or an index out of range. The error does not repeat the words.

        Cost: blocks for about 0.1 s (PBKDF2, 2,048 rounds). The derivation is eth-account's, whose authors call it
        unaudited.

        Source: BIP-39, BIP-44.
        """
        secret = as_secret(words)
        del words
        if not 0 <= account_index <= MAX_ACCOUNT_INDEX:
            raise UsageError("an account index is between 0 and 2**31 - 1")
        account = load_account()
        from eth_utils.exceptions import ValidationError

        account.enable_unaudited_hdwallet_features()
        key: Secret | None = None
        # Not chained: the library's error repeats the words, and its frames hold them.
        with contextlib.suppress(ValueError, ValidationError):
            key = Secret(
                account.from_mnemonic(
                    " ".join(secret.reveal_text().split()), account_path=f"m/44'/60'/0'/0/{account_index}"
                ).key
            )
        if key is None:
            raise UsageError("not a BIP-39 phrase", remedy="check the words, their order and their number")
        return cls(key)

    @property
    def address(self) -> str:
        """The address with its EIP-55 checksum: ``0x`` and 40 hex digits."""
        return address_to_text(self._address_bytes)

    @property
    def address_bytes(self) -> bytes:
        """The address, 20 bytes."""
        return self._address_bytes

    def sign(self, struct: TypedStruct, network: str) -> bytes:
        """Sign a structure for one network.

        Returns:
            r, s, v: 65 bytes, canonical and deterministic (RFC 6979).

        Cost: 0.3 ms.
        """
        from coincurve import PrivateKey

        raw = PrivateKey(self._secret.reveal()).sign_recoverable(typed_digest(struct, network), hasher=None)
        return raw[:64] + bytes([raw[64] + 27])

    def secret_key(self) -> Secret:
        """Return the private key, wrapped: for writing it to a key file."""
        return self._secret

    def __repr__(self) -> str:
        # A traceback with locals shows a wallet whose key was refused, too.
        address = self.address if hasattr(self, "_address_bytes") else "no key"
        return f"Wallet({address}, {REDACTED})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Wallet):
            return NotImplemented
        return self._address_bytes == other._address_bytes

    def __hash__(self) -> int:
        return hash(self._address_bytes)

    def __copy__(self) -> Wallet:
        return self

    def __deepcopy__(self, memo: object) -> Wallet:
        return self

    def __reduce__(self) -> NoReturn:
        raise UsageError("a wallet is not pickled")
