"""Opens the wallet that a caller names, in one of the ways in which wallets are kept."""

from __future__ import annotations

from pathlib import Path

from hostmesh.errors import UsageError
from hostmesh.identity.keystore import load_wallet
from hostmesh.identity.secret import Secret
from hostmesh.identity.wallet import Wallet


async def open_wallet(
    wallet: Wallet | None,
    private_key: Secret | None,
    keystore: Path | str | None,
    password: Secret | None,
    mnemonic: Secret | None,
    account_index: int,
    *,
    is_needed: bool,
) -> Wallet | None:
    """Return the wallet; see :meth:`hostmesh.SDK.authenticate` for the ways.

    Args:
        wallet: one that is open already.
        private_key: in hexadecimal.
        keystore: a keystore V3 or raw key file.
        password: of the keystore.
        mnemonic: BIP-39 words.
        account_index: which account of the words.
        is_needed: whether one of the ways must be given.

    Returns:
        None where no way was given and none is needed.

    Raises:
        UsageError: several ways were given, or none; or no such key.
        KeyFileError: the file cannot be read or trusted, or the password is wrong.

    Cost: a keystore takes about a second of CPU in a worker thread (scrypt).
    """
    ways = sum(way is not None for way in (private_key, keystore, mnemonic, wallet))
    if ways > 1 or (ways == 0 and is_needed):
        raise UsageError(
            "authenticate takes one of private_key, keystore, mnemonic and wallet",
            remedy='sdk.authenticate(keystore="wallet.json", password="...")',
        )
    if private_key is not None:
        return Wallet.from_private_key(private_key)
    if mnemonic is not None:
        return Wallet.from_mnemonic(mnemonic, account_index)
    if keystore is not None:
        return await load_wallet(Path(keystore), None if password is None else lambda: password)
    return wallet
