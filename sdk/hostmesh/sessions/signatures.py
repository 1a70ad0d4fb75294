"""Who signed: a key, or a contract wallet where somebody can ask contracts (EIP-1271).

Contract wallets sign delegations, and what takes these back. What a session goes on with, its authorisation and the
countersignatures of its receipts, is signed by a key: anybody can verify it, now and later, without a chain.

No chain takes part in hostmesh. A host that is to serve contract wallets brings a :class:`ContractVerifier`, which asks
a node of its choice; without one their signatures are refused in so many words.

Source: EIP-1271, ``isValidSignature(bytes32 hash, bytes signature)``.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

import trio

from hostmesh.errors import BadSignatureError
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.identity.typed_data import SIGNATURE_BYTES, TypedStruct, recover_signer, typed_digest
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.authorization import message_from_terms
from hostmesh.sessions.contract_limits import ContractLimits
from hostmesh.sessions.delegation import HeldDelegation
from hostmesh.sessions.papers import verify_papers
from hostmesh.sessions.reasons import Reason, RefusedError


class ContractVerifier(Protocol):
    """Asks a contract wallet whether a signature is its own.

    Example::

        class ByRpc:
            async def is_valid(self, address: bytes, digest: bytes, signature: bytes) -> bool:
                answer = await self._eth_call(address, encode_is_valid_signature(digest, signature))
                return answer[:4] == bytes.fromhex("1626ba7e")
    """

    async def is_valid(self, address: bytes, digest: bytes, signature: bytes) -> bool:
        """Whether the contract at ``address`` (20 bytes) takes ``signature`` (2,048 bytes at most) for ``digest``.

        It is given up after :attr:`ContractLimits.timeout_s`; any exception counts as no answer.
        """
        ...


class SignatureChecker:
    """Checks signatures for one network.

    Args:
        network: the network's name.
        contracts: asks contract wallets; None = they are refused.
        limits: of asking.
    """

    def __init__(
        self, network: str, *, contracts: ContractVerifier | None = None, limits: ContractLimits | None = None
    ) -> None:
        self._network = network
        self._contracts = contracts
        self._limits = limits or ContractLimits()
        self._asking: Counter[PeerId] = Counter()

    def is_of_key(self, struct: TypedStruct, signature: bytes, signer: bytes) -> bool:
        """Whether the key of an address signed. Cost: 0.1 ms."""
        if len(signature) != SIGNATURE_BYTES:
            return False
        try:
            return recover_signer(struct, signature, self._network) == signer
        except BadSignatureError:
            return False

    async def check(
        self, struct: TypedStruct, signature: bytes, signer: bytes, *, wrong: RefusedError, peer_id: PeerId
    ) -> None:
        """Check that an owner signed, key or contract. Waits only where a contract is asked.

        Args:
            struct: a delegation, or its revocation.
            signature: as it came, 2,048 bytes at most.
            signer: the wallet's address, 20 bytes.
            wrong: raised where it did not sign.
            peer_id: who wants it checked.

        Raises:
            RefusedError: ``wrong``; CONTRACT_WALLET, RATE_LIMITED (contracts are asked for others), or
                CONTRACT_UNAVAILABLE.
        """
        if self.is_of_key(struct, signature, signer):
            return
        if self._contracts is None:
            if len(signature) == SIGNATURE_BYTES:
                raise wrong
            raise RefusedError(Reason.CONTRACT_WALLET, "this host does not ask contract wallets")
        if self._asking.total() >= self._limits.at_once or self._asking[peer_id] >= self._limits.at_once_per_peer:
            raise RefusedError(Reason.RATE_LIMITED, "too many contracts are being asked", retry_after_s=1.0)
        self._asking[peer_id] += 1
        try:
            if not await self._ask(self._contracts, signer, typed_digest(struct, self._network), signature):
                raise wrong
        finally:
            self._asking[peer_id] -= 1
            if not self._asking[peer_id]:
                del self._asking[peer_id]

    async def check_authorization(
        self,
        terms: SessionAuthorization,
        signature: bytes,
        held: HeldDelegation | None,
        *,
        is_delegation_known: bool,
        peer_id: PeerId,
    ) -> None:
        """Check that the client's key signed, or the session key and, for it, the owner, who may be a contract.

        Args:
            terms: what was signed.
            signature: as it came.
            held: the delegation; None = the client's wallet signs.
            is_delegation_known: its owner's signature was found good before.
            peer_id: who sent it.

        Raises:
            RefusedError: BAD_SIGNATURE; CONTRACT_WALLET, a contract signed the authorisation itself;
                DELEGATION_BAD_SIGNATURE, or as :meth:`check` says.
        """
        if not self.is_of_key(terms, signature, terms.client if held is None else held.struct.delegate):
            if held is None and len(signature) != SIGNATURE_BYTES:
                raise RefusedError(
                    Reason.CONTRACT_WALLET, "a contract wallet does not sign sessions itself; it delegates to a key"
                )
            raise RefusedError(
                Reason.BAD_SIGNATURE, "the authorisation is not signed by who it says, or for another network"
            )
        if held is not None and not is_delegation_known:
            wrong = RefusedError(Reason.DELEGATION_BAD_SIGNATURE, "the delegation is not signed by its owner")
            await self.check(held.struct, held.signature, held.struct.owner, wrong=wrong, peer_id=peer_id)

    def check_papers(self, terms: SessionAuthorization, signature: bytes, held: HeldDelegation | None) -> None:
        """Check the papers of a session as they are kept, like anybody to whom its receipts will be shown.

        Only that a contract signed the delegation is nothing that others could verify.

        Raises:
            RefusedError: they would not be believed.
        """
        verify_papers(
            message_from_terms(terms, signature).SerializeToString(),
            b"" if held is None else held.serialized,
            network=self._network,
            is_owner_known=self._contracts is not None,
        )

    async def _ask(self, contracts: ContractVerifier, address: bytes, digest: bytes, signature: bytes) -> bool:
        answer: bool | None = None
        with trio.move_on_after(self._limits.timeout_s):
            try:
                answer = await contracts.is_valid(address, digest, signature)
            except Exception as error:  # the operator's own code; whatever it raises is no answer
                raise _no_answer() from error
        if answer is None:
            raise _no_answer()
        return answer is True


def _no_answer() -> RefusedError:
    return RefusedError(
        Reason.CONTRACT_UNAVAILABLE, "the contract wallet was not answered for; try again", retry_after_s=5.0
    )
