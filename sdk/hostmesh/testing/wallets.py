"""Wallets for tests: real secp256k1 keys and real EIP-712 signatures, the same for the same name on every machine.

Everyone can compute these keys, so whatever stands behind one belongs to everyone. Three things keep them from being
used by accident:

- a wallet signs for test networks only: those whose name starts with ``test`` or ``sim``, and those named when it was
  made. The default network, ``hostmesh``, is none;
- it does not give its key out, so it cannot be written to a key file;
- its ``repr`` says what it is.

The keys are derived with a prefix of their own: no name gives the key that another tool makes of the same words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import NoReturn

from hostmesh.errors import UsageError
from hostmesh.identity.secret import Secret
from hostmesh.identity.typed_data import TypedStruct
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_key import PeerKey

TEST_NETWORK = "testnet"
"""The network of records and wallets that name no other."""
_TEST_NETWORK_STARTS = ("test", "sim")
_WALLET_PREFIX = b"hostmesh public test wallet, never fund\0"
_PEER_PREFIX = b"hostmesh public test peer\0"


def is_test_network(network: str) -> bool:
    """Tell whether a network's name says that it is one for tests.

    >>> is_test_network("testnet"), is_test_network("sim-7"), is_test_network("hostmesh")
    (True, True, False)
    """
    return network.startswith(_TEST_NETWORK_STARTS)


class PublicKeyWallet(Wallet):
    """A wallet whose private key is public knowledge. Get one from :func:`make_wallet`.

    Args:
        private_key: 32 bytes.
        name: what it was made of, for ``repr``.
        networks: networks that it signs for beside test networks.
    """

    __slots__ = ("_name", "_networks")

    def __init__(self, private_key: Secret, *, name: str = "unnamed", networks: Collection[str] = ()) -> None:
        self._name = name
        self._networks = frozenset(networks)
        super().__init__(private_key)

    def sign(self, struct: TypedStruct, network: str) -> bytes:
        """Sign a structure for a test network; see :meth:`hostmesh.Wallet.sign`.

        Raises:
            UsageError: another network.
        """
        if not is_test_network(network) and network not in self._networks:
            raise UsageError(
                f"the test wallet {self._name!r} does not sign for the network {network!r}: its key is public",
                remedy='use a network whose name starts with "test" or "sim", or make the wallet with networks=[...]',
            )
        return super().sign(struct, network)

    def secret_key(self) -> NoReturn:
        """Refuse: a key file of a test wallet would look like any other.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"the test wallet {self._name!r} does not give its key out: everyone can compute it",
            remedy="make a real one: hostmesh wallet new, or Wallet.generate()",
        )

    def __repr__(self) -> str:
        return f"PublicKeyWallet({self._name!r}, {self.address}, test networks only)"


def make_wallet(name: str | int, *, networks: Collection[str] = ()) -> PublicKeyWallet:
    """Return the test wallet of a name or a seed; 7 and ``"7"`` are two wallets.

    Args:
        name: any text or whole number.
        networks: networks that it shall sign for although their names do not start with ``test`` or ``sim``.

    Raises:
        UsageError: a name that is neither.

    >>> make_wallet("alice") == make_wallet("alice") != make_wallet("bob")
    True
    >>> make_wallet("alice")
    PublicKeyWallet('alice', 0x472717519BA99B7D36d8E45c13F2Fb72EcEa561B, test networks only)
    """
    # All but 1 in 2**128 digests are keys; a name that is none is refused by the wallet itself.
    return PublicKeyWallet(Secret(_digest(_WALLET_PREFIX, name)), name=str(name), networks=networks)


def make_peer_key(name: str | int) -> PeerKey:
    """Return the test peer key of a name or a seed. It is as public as a test wallet's.

    >>> make_peer_key("host").peer_id
    '12D3KooWBWXm2QAusHiuLXb9s8EehD4SkLiBjdkfNPbAmYy2iUjs'
    """
    return PeerKey(_digest(_PEER_PREFIX, name))


def _digest(prefix: bytes, name: object) -> bytes:
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise UsageError(f"a test key is made of a text or a whole number, not of {name!r}")
    kind = b"i" if isinstance(name, int) else b"s"
    return hashlib.sha256(prefix + kind + str(name).encode("utf-8", "surrogatepass")).digest()
