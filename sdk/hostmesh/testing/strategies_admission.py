"""Strategies for what hosts ask of those who open sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.discovery.terms import MAX_UINT64
from hostmesh.identity.address import ADDRESS_BYTES
from hostmesh.sessions.admission.attack import AttackLimits
from hostmesh.sessions.admission.client_standing import MAX_REPUTATION
from hostmesh.sessions.admission.deposits import MAX_PROOF_BYTES, DepositClaim, DepositVerdict
from hostmesh.sessions.admission.policy import AdmissionPolicy
from hostmesh.sessions.admission.rate import Rate
from hostmesh.sessions.admission.work import MAX_BITS, WorkLimit
from hostmesh.testing.lazy_hypothesis import st
from hostmesh.testing.strategies_basic import counts, currencies, model_ids, peer_ids, texts

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def rates() -> SearchStrategy[Rate]:
    """Draw a rate, from one in 1,000 seconds to 1,000 a second."""
    return st.builds(Rate, per_second=st.floats(0.001, 1000), burst=st.integers(1, 10_000))


def wallets() -> SearchStrategy[bytes]:
    """Draw a wallet's address, 20 bytes."""
    return st.binary(min_size=ADDRESS_BYTES, max_size=ADDRESS_BYTES)


def attack_limits() -> SearchStrategy[AttackLimits]:
    """Draw when there is an attack; now and then, that no work is ever asked."""

    def build(rate: list[float], fullness: list[float], bits: list[int], is_off: bool, seconds: float) -> AttackLimits:
        return AttackLimits(
            end_per_s=min(rate),
            start_per_s=max(rate),
            end_fullness=min(fullness),
            start_fullness=max(fullness),
            first_bits=min(bits),
            max_bits=0 if is_off else max(bits),
            quiet_s=seconds,
            step_s=seconds / 10,
            most_worked_per_s=max(rate),
        )

    return st.builds(
        build,
        st.lists(st.floats(0.1, 1000), min_size=2, max_size=2),
        st.lists(st.floats(0.01, 1), min_size=2, max_size=2),
        st.lists(st.integers(1, MAX_BITS), min_size=2, max_size=2),
        st.booleans(),
        st.floats(0.1, 3600),
    )


def admission_policies() -> SearchStrategy[AdmissionPolicy]:
    """Draw whom a host takes, everybody first."""
    return st.builds(
        AdmissionPolicy,
        only_listed=st.booleans(),
        allowed_wallets=st.frozensets(wallets(), max_size=4),
        min_reputation=st.integers(0, MAX_REPUTATION),
        sessions_per_wallet=rates(),
        sessions_per_peer=rates(),
        sessions_per_network=rates(),
        unworked_checks=rates(),
        attack=attack_limits(),
    )


def deposit_claims() -> SearchStrategy[DepositClaim]:
    """Draw what a verifier of deposits is asked."""
    return st.builds(
        DepositClaim,
        wallet=wallets(),
        peer_id=peer_ids(),
        model_id=model_ids(),
        spending_limit_micros=counts(MAX_UINT64),
        currency=currencies(),
        proof=st.binary(min_size=1, max_size=64) | st.just(bytes(MAX_PROOF_BYTES)),
    )


def deposit_verdicts() -> SearchStrategy[DepositVerdict]:
    """Draw what a verifier answers."""
    return st.builds(DepositVerdict, is_enough=st.booleans(), why=st.just("") | texts(most_bytes=256))


def work_limits() -> SearchStrategy[WorkLimit]:
    """Draw how much work a client is ready to do, none first."""
    return st.builds(WorkLimit, max_bits=st.integers(0, MAX_BITS), max_s=st.floats(0.001, 3600))
