"""What stands before the signature check of a host: challenges, admission, deposits, and the watch for attacks.

While all is calm, challenges are kept in a table, which says how many a peer and a network have open. Under attack they
are cookies, so that nobody can fill the table and leave honest clients without one.

The order, of which docs/protocols/session.md has the whole: the challenge, the rates and the work come before the
signature; what is the wallet's own, and the deposit, after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hostmesh.identity.structs import SessionAuthorization
from hostmesh.identity.typed_data import NONCE_BYTES
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.admission.challenge_cookies import RANDOM_BYTES, SECRET_BYTES, ChallengeCookies
from hostmesh.sessions.admission.challenge_table import ChallengeLimits, ChallengeTable
from hostmesh.sessions.admission.deposits import DepositClaim, DepositDesk, DepositVerifier
from hostmesh.sessions.admission.policy import Admission, AdmissionPolicy, everybody_is_new
from hostmesh.system import System

_CALLS = 2
"""That a session takes: a challenge, and the authorisation."""
_CALLS_WITH_WORK = 3
"""The authorisation comes twice: without work first, since the client cannot know whether it needs any."""
_LOOK_S = 1.0
"""How often the tables are looked at: counting sessions is linear in the peers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedChallenge:
    """A challenge as it goes out."""

    nonce: bytes
    expires_at: float
    """Monotonic seconds."""
    work_bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """How an authorisation came past the gate, up to its signature."""

    on_claim: bool
    """By the wallet that it claims: a wrong signature is answered as WORK_REQUIRED."""
    with_work: bool


class Gate:
    """The gate of one host.

    Args:
        policy: whom to take.
        challenges: bounds of the open challenges.
        reputation_of: what this host saw of a wallet, 0 to 1000; None = everybody is new.
        deposits: the operator's verifier; None: no deposit is demanded.
        has_session: whether a peer has a session that is open.
        fullness_of_sessions: share of the places that are taken, 0 to 1.
        network_of: the /24 or /48 of a peer's connection; None where it is not known.
        system: clocks and random bytes.
    """

    def __init__(
        self,
        *,
        policy: AdmissionPolicy | None,
        challenges: ChallengeLimits,
        reputation_of: Callable[[bytes], int] | None,
        deposits: DepositVerifier | None,
        has_session: Callable[[PeerId], bool],
        fullness_of_sessions: Callable[[], float],
        network_of: Callable[[PeerId], str | None],
        system: System,
    ) -> None:
        self._admission = Admission(policy, reputation_of=reputation_of or everybody_is_new)
        self._challenge_limits = challenges
        self._challenges = ChallengeTable(challenges)
        self._cookies = ChallengeCookies(system.random_bytes(SECRET_BYTES))
        self._desk = DepositDesk(deposits)
        self._has_session = has_session
        self._fullness_of_sessions = fullness_of_sessions
        self._network_of = network_of
        self._system = system
        self._looked_at = float("-inf")

    @property
    def policy(self) -> AdmissionPolicy:
        """Whom the host takes."""
        return self._admission.policy

    @property
    def work_bits(self) -> int:
        """What is asked of strangers now; 0 = there is no attack."""
        return self._admission.attack.bits(self._system.monotonic_s())

    def replace(self, policy: AdmissionPolicy) -> None:
        """Take another policy from now on; sessions that are open stay."""
        self._admission.replace(policy)

    # --- a challenge ---

    def issue(self, peer_id: PeerId) -> IssuedChallenge:
        """Return a challenge for a peer.

        Raises:
            RefusedError: TOO_MANY_CHALLENGES, while there is no attack.
        """
        now = self._system.monotonic_s()
        self._called(now)
        attack_bits = self._admission.attack.bits(now)
        if attack_bits:
            bits = 0 if self._has_session(peer_id) else attack_bits
            random = self._system.random_bytes(RANDOM_BYTES)
            nonce, expires_at = self._cookies.issue(peer_id, bits=bits, random=random, now=now)
            return IssuedChallenge(nonce=nonce, expires_at=expires_at, work_bits=bits)
        nonce = self._system.random_bytes(NONCE_BYTES)
        expires_at = self._challenges.issue(peer_id, nonce=nonce, now=now, network_key=self._network_of(peer_id))
        return IssuedChallenge(nonce=nonce, expires_at=expires_at, work_bits=0)

    def check_challenge(self, nonce: bytes, peer_id: PeerId) -> int:
        """Return the work that an open challenge of this peer asked for.

        Raises:
            RefusedError: UNKNOWN_CHALLENGE; of a cookie also REPLAYED or TOO_MANY_CHALLENGES.
        """
        now = self._system.monotonic_s()
        bits = self._cookies.bits_of(nonce, peer_id, now)
        if bits is None:
            self._challenges.check(nonce, peer_id, now)
        return bits or 0

    # --- an authorisation ---

    def called(self) -> None:
        """Note an authorisation, whatever will come of it."""
        self._called(self._system.monotonic_s())

    def repeated(self) -> None:
        """Note that it was one that had been granted."""
        self._admission.attack.came_to_something(self._system.monotonic_s(), calls=1)

    def pass_unsigned(self, terms: SessionAuthorization, work: bytes, peer_id: PeerId, *, asked_bits: int) -> Passage:
        """Check what needs no signature.

        Args:
            terms: what is authorised.
            work: what came with it.
            peer_id: the caller.
            asked_bits: from :meth:`check_challenge`.

        Raises:
            RefusedError: RATE_LIMITED, WORK_REQUIRED or WORK_TOO_LITTLE.
        """
        now = self._system.monotonic_s()
        self._admission.check_rates(peer_id, self._network_of(peer_id), now)
        on_claim = self._admission.check_work(
            terms.nonce,
            work,
            asked_bits=asked_bits,
            is_known=self._has_session(peer_id),
            claimed_wallet=terms.client,
            now=now,
        )
        return Passage(on_claim=on_claim, with_work=bool(work and asked_bits))

    async def admit(self, terms: SessionAuthorization, deposit_proof: bytes, peer_id: PeerId) -> None:
        """Decide about a wallet whose signature holds. Waits only where a deposit is checked.

        Raises:
            RefusedError: NOT_ALLOWED, REPUTATION_TOO_LOW, RATE_LIMITED, DEPOSIT_REQUIRED, DEPOSIT_REFUSED or
                DEPOSIT_UNAVAILABLE.
        """
        is_listed = self._admission.admit(terms.client, peer_id, self._network_of(peer_id), self._system.monotonic_s())
        if self._desk.is_open and not is_listed:
            await self._desk.check(
                DepositClaim(
                    wallet=terms.client,
                    peer_id=peer_id,
                    model_id=terms.model_id,
                    spending_limit_micros=terms.spending_limit_micros,
                    currency=terms.currency,
                    proof=deposit_proof,
                )
            )

    def opened(self, nonce: bytes, passage: Passage, peer_id: PeerId) -> None:
        """Note that a session was opened: its challenge is used up, and its network has one more."""
        now = self._system.monotonic_s()
        self._admission.opened(self._network_of(peer_id), now)
        if nonce in self._challenges:
            self._challenges.burn(nonce)
        else:
            self._cookies.burn(nonce, now)
        self._admission.attack.came_to_something(now, calls=_CALLS_WITH_WORK if passage.with_work else _CALLS)

    def _called(self, now: float) -> None:
        if now - self._looked_at >= _LOOK_S:
            self._looked_at = now
            self._challenges.expire(now)
            share = len(self._challenges) / self._challenge_limits.total
            self._admission.attack.filled(max(share, self._fullness_of_sessions()), now)
        self._admission.attack.called(now)
