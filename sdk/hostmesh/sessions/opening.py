"""The two calls that open a session, and what a client checks of their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import trio

from hostmesh.errors import (
    BindingRevokedError,
    ConnectionLostError,
    DeadlineExceededError,
    HostmeshError,
    RemoteProtocolError,
    RpcError,
    SessionError,
    UsageError,
)
from hostmesh.identity.binding import verify_binding
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.shapes import RpcCaller
from hostmesh.sessions.admission.deposits import MAX_PROOF_BYTES
from hostmesh.sessions.admission.work import WorkLimit
from hostmesh.sessions.admission.work_search import do_work
from hostmesh.sessions.authorization import message_from_terms
from hostmesh.sessions.client_record import ClientRecord
from hostmesh.sessions.client_terms import ChoiceLike
from hostmesh.sessions.grant import open_grant
from hostmesh.sessions.reasons import GrantFault, Reason
from hostmesh.system import System
from hostmesh.v1 import session_pb2 as pb
from hostmesh.v1.session_hostmesh import SessionServiceClient

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a client brings for a host's admission, beside the authorisation.

    Raises:
        UsageError: the proof is over 2,048 bytes.
    """

    deposit_proof: bytes
    """Empty: none."""
    work: WorkLimit
    """Most work to do."""
    work_bits: int = 0
    """What the challenge asks for."""

    def __post_init__(self) -> None:
        if len(self.deposit_proof) > MAX_PROOF_BYTES:
            raise UsageError(f"a deposit's proof has at most {MAX_PROOF_BYTES} bytes")


class BindingBook(Protocol):
    """Knows which bindings are void: discovery's ``RecordBook.revoking`` does."""

    def least_epoch(self, operator: bytes, peer_id: PeerId) -> int:
        """Return the lowest epoch of a wallet's bindings of a key that holds; 0 = each."""
        ...

    def voided_at(self, operator: bytes, peer_id: PeerId) -> float:
        """Return when this node heard that bindings of a key by a wallet are void, in unix seconds; 0 = none is."""
        ...

    def saw_binding(self, operator: bytes, peer_id: PeerId, epoch: int) -> None:
        """Take in a binding that holds: it voids those of lower epochs."""
        ...


class SessionOpener:
    """Makes the calls that open sessions; keeps nothing.

    Args:
        caller: makes the calls.
        network: the network's name.
        system: the clock.
        bindings: which are void; None = whichever holds by itself.
    """

    def __init__(self, caller: RpcCaller, *, network: str, system: System, bindings: BindingBook | None = None) -> None:
        self._bindings = bindings
        self._caller = caller
        self._network = network
        self._system = system

    async def challenge(self, choice: ChoiceLike, deadline: float) -> pb.Challenge:
        """Ask for a challenge, and check that the host is who discovery found.

        Args:
            choice: the host.
            deadline: on trio's clock.

        Raises:
            SessionError: OPERATOR_CHANGED, BAD_BINDING or BINDING_REVOKED; nothing was signed.
            RpcError: the host refuses.
            TransportError: no answer in time.
        """
        challenge = await SessionServiceClient(self._caller, choice.peer_id).get_challenge(
            pb.GetChallengeRequest(), timeout_s=_left_s(deadline)
        )
        if challenge.operator != choice.operator:
            raise SessionError(
                "the host is bound to another operator than when it was found",
                reason=GrantFault.OPERATOR_CHANGED.value,
                remedy="find hosts again",
            )
        if not challenge.HasField("binding"):
            raise SessionError(
                "the host shows no binding", reason=GrantFault.BAD_BINDING.value, remedy="find hosts again"
            )
        try:
            operator = verify_binding(
                challenge.binding,
                peer_id=choice.peer_id,
                network=self._network,
                now=self._system.unix_s(),
                least_epoch=0
                if self._bindings is None
                else self._bindings.least_epoch(choice.operator, choice.peer_id),
            )
        except BindingRevokedError as error:
            raise SessionError(
                "the host's operator took back the binding of its key",
                reason=Reason.BINDING_REVOKED.value,
                remedy="choose another host",
            ) from error
        except RemoteProtocolError as error:
            raise SessionError(
                f"the host's binding proves nothing: {error.message}",
                reason=GrantFault.BAD_BINDING.value,
                remedy=error.remedy or "check that client and host name the same network, or choose another host",
            ) from error
        if operator != choice.operator:
            raise SessionError(
                "the host's binding is of another operator than when it was found",
                reason=GrantFault.OPERATOR_CHANGED.value,
                remedy="find hosts again",
            )
        if self._bindings is not None:
            self._bindings.saw_binding(operator, choice.peer_id, challenge.binding.revocation_epoch)
        return challenge

    async def authorize(
        self, record: ClientRecord, deadline: float, entry: Entry | None = None
    ) -> tuple[pb.SessionGrant, bytes]:
        """Send an authorisation, for the first time or again, and check the grant that answers it.

        Work is done when the host refuses without it, and not before: it may know this wallet, or this peer.

        Args:
            record: what was signed.
            deadline: on trio's clock; what the work takes is added.
            entry: for admission; None = it was admitted before.

        Returns:
            The grant, and the envelope that it came in.

        Raises:
            SessionError: a word of :class:`~hostmesh.sessions.reasons.GrantFault`: the answer proves nothing; or
                WORK_REQUIRED: more than the entry allows.
            RpcError, TransportError: refused, or no answer; ``may_have_executed`` says whether the host may have opened
                it.
        """
        request = pb.AuthorizeRequest(
            authorization=message_from_terms(record.terms, record.signature), delegation=record.delegation
        )
        if entry is not None:
            request.deposit_proof = entry.deposit_proof
        try:
            response = await self._send(record.host, request, deadline)
        except RpcError as error:
            if entry is None or not entry.work_bits or error.reason != Reason.WORK_REQUIRED.value:
                raise
            began = trio.current_time()
            request.work = await do_work(record.terms.nonce, entry.work_bits, entry.work)
            response = await self._send(record.host, request, deadline + trio.current_time() - began)
        envelope = response.grant
        grant = open_grant(envelope, record.terms, host=record.host, network=self._network, now=self._system.unix_s())
        if record.session_id not in (b"", grant.session_id):
            raise SessionError(
                "the host granted another session than before",
                reason=GrantFault.GRANT_CHANGED.value,
                remedy="do not trust this host; choose another",
            )
        return grant, envelope

    async def _send(self, host: PeerId, request: pb.AuthorizeRequest, deadline: float) -> pb.AuthorizeResponse:
        client = SessionServiceClient(self._caller, host)
        was_lost = False
        # The identical authorisation gets the same grant, so a lost answer is asked for again.
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await client.authorize(request, timeout_s=_left_s(deadline))
            except ConnectionLostError as error:
                was_lost = was_lost or error.may_have_executed
                error.may_have_executed = was_lost
                if attempt == _ATTEMPTS or trio.current_time() >= deadline:
                    raise
            except HostmeshError as error:
                # A host that refuses by a word of its own has not opened it before either.
                if was_lost and not (isinstance(error, RpcError) and error.reason in Reason.__members__):
                    error.may_have_executed = True
                raise
        raise AssertionError("the last attempt returns or raises")


def _left_s(deadline: float) -> float:
    left_s = deadline - trio.current_time()
    if left_s <= 0:
        error = DeadlineExceededError("no session was opened in time")
        error.may_have_executed, error.retry_safe = False, True
        raise error
    return left_s
