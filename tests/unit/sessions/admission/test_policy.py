"""Who may open sessions, and how often: what is decided before a signature, and what after it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.errors import ConfigError
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key
from hostmesh.sessions.admission.attack import AttackLimits
from hostmesh.sessions.admission.policy import MAX_ALLOWED, Admission, AdmissionPolicy
from hostmesh.sessions.admission.rate import Rate
from hostmesh.sessions.admission.work import find_work
from hostmesh.sessions.reasons import Reason, RefusedError

PEERS = [peer_id_from_public_key(bytes([number]) * 32) for number in range(8)]
WALLETS = [bytes([number]) * 20 for number in range(8)]
NONCE = b"n" * 32
SLOW = Rate(per_second=0.1, burst=2)
FAST = Rate(per_second=1e6, burst=1_000_000)
OPEN = AdmissionPolicy(sessions_per_wallet=FAST, sessions_per_peer=FAST, sessions_per_network=FAST)


def refusal(admission: Admission, wallet: bytes, peer: PeerId = PEERS[0], network: str | None = "a") -> Reason | None:
    try:
        admission.admit(wallet, peer, network, 0.0)
        admission.opened(network, 0.0)
    except RefusedError as refused:
        return refused.word
    return None


def under_attack(policy: AdmissionPolicy = OPEN) -> Admission:
    admission = Admission(policy)
    admission.attack.called(0.0, 100_000)
    assert admission.attack.bits(0.0) == policy.attack.first_bits
    return admission


def test_everybody_is_taken_by_default() -> None:
    admission = Admission()
    assert all(refusal(admission, wallet) is None for wallet in WALLETS)


def test_a_list_lets_its_wallets_in_and_nobody_else() -> None:
    admission = Admission(replace(OPEN, only_listed=True, allowed_wallets=frozenset(WALLETS[:2])))
    assert [refusal(admission, wallet) for wallet in WALLETS[:4]] == [None, None, *[Reason.NOT_ALLOWED] * 2]
    # Without the rule the list still is one: of whom nothing else is asked.
    admission.replace(replace(admission.policy, only_listed=False, min_reputation=101))
    assert [refusal(admission, wallet) for wallet in WALLETS[1:3]] == [None, Reason.REPUTATION_TOO_LOW]


def test_a_list_that_changes_holds_at_once() -> None:
    admission = Admission(replace(OPEN, only_listed=True, allowed_wallets=frozenset(WALLETS[:1])))
    admission.replace(replace(OPEN, only_listed=True, allowed_wallets=frozenset(WALLETS[1:2])))
    assert [refusal(admission, wallet) for wallet in WALLETS[:2]] == [Reason.NOT_ALLOWED, None]


@pytest.mark.parametrize(("least", "taken"), [(0, 3), (99, 2), (100, 2), (101, 1), (500, 1), (501, 0), (1000, 0)])
def test_the_least_reputation_is_inclusive(least: int, taken: int) -> None:
    known = {WALLETS[1]: 500, WALLETS[2]: 30}
    admission = Admission(replace(OPEN, min_reputation=least), reputation_of=lambda wallet: known.get(wallet, 100))
    refusals = [refusal(admission, wallet) for wallet in WALLETS[:3]]
    assert refusals.count(None) == taken
    assert set(refusals) <= {None, Reason.REPUTATION_TOO_LOW}


@pytest.mark.parametrize("whose", ["wallet", "peer", "network"])
def test_each_rate_is_its_own(whose: str) -> None:
    admission = Admission(replace(OPEN, **{f"sessions_per_{whose}": SLOW}))
    ours = {"wallet": WALLETS[0], "peer": PEERS[0], "network": "a"}
    assert [refusal(admission, *ours.values()) for _ in range(3)] == [None, None, Reason.RATE_LIMITED]
    # Another wallet, another peer or another network: whichever is limited is the one that has to differ.
    for other, value in (("wallet", WALLETS[1]), ("peer", PEERS[1]), ("network", "b")):
        expected = None if other == whose else Reason.RATE_LIMITED
        assert refusal(admission, *(ours | {other: value}).values()) is expected


def test_where_the_address_is_not_known_no_networks_rate_applies() -> None:
    admission = Admission(replace(OPEN, sessions_per_network=SLOW))
    assert [refusal(admission, WALLETS[0], network=None) for _ in range(50)] == [None] * 50


def test_a_refusal_counts_nothing() -> None:
    policy = replace(OPEN, only_listed=True, allowed_wallets=frozenset(WALLETS[:1]))
    admission = Admission(replace(policy, sessions_per_wallet=SLOW, sessions_per_peer=SLOW, sessions_per_network=SLOW))
    for _ in range(20):
        assert refusal(admission, WALLETS[1]) is Reason.NOT_ALLOWED
    assert [refusal(admission, WALLETS[0]) for _ in range(3)] == [None, None, Reason.RATE_LIMITED]
    # The wallet's rate refuses before the peer's is touched.
    for _ in range(20):
        assert refusal(admission, WALLETS[0], PEERS[1], "b") is Reason.RATE_LIMITED
    admission.check_rates(PEERS[1], "b", 0.0)


def test_looking_at_the_rates_takes_nothing() -> None:
    admission = Admission(replace(OPEN, sessions_per_peer=SLOW))
    for _ in range(100):
        admission.check_rates(PEERS[0], "a", 0.0)
    assert [refusal(admission, WALLETS[0]) for _ in range(3)] == [None, None, Reason.RATE_LIMITED]
    with pytest.raises(RefusedError) as caught:
        admission.check_rates(PEERS[0], "a", 0.0)
    assert caught.value.word is Reason.RATE_LIMITED
    assert caught.value.retry_after_s == 10.0
    admission.check_rates(PEERS[0], "a", 10.0)


def test_other_rates_hold_at_once_and_equal_ones_go_on() -> None:
    admission = Admission(replace(OPEN, sessions_per_wallet=SLOW))
    assert [refusal(admission, WALLETS[0]) for _ in range(3)] == [None, None, Reason.RATE_LIMITED]
    admission.replace(replace(admission.policy, min_reputation=1))
    assert refusal(admission, WALLETS[0]) is Reason.RATE_LIMITED
    admission.replace(OPEN)
    assert refusal(admission, WALLETS[0]) is None


def test_other_limits_of_attacks_hold_at_once() -> None:
    admission = under_attack()
    admission.replace(replace(OPEN, attack=AttackLimits(max_bits=0)))
    assert admission.attack.bits(0.0) == 0


# --- work ---


def work_refusal(admission: Admission, work: bytes = b"", **changes: object) -> Reason | bool:
    fields = {"asked_bits": 14, "is_known": False, "claimed_wallet": WALLETS[5], "now": 0.0} | changes
    try:
        return admission.check_work(NONCE, work, **fields)  # type: ignore[arg-type]
    except RefusedError as refused:
        return refused.word


def good_work(bits: int) -> bytes:
    work = find_work(NONCE, bits, first=0, tries=1 << 20)
    assert work is not None
    return work


def test_without_an_attack_no_work_is_asked_and_none_is_looked_at() -> None:
    admission = Admission(OPEN)
    for work in (b"", bytes(8), b"x" * 8):
        for asked in (0, 14):
            assert work_refusal(admission, work, asked_bits=asked) is False


def test_under_attack_strangers_work() -> None:
    admission = under_attack()
    assert work_refusal(admission) is Reason.WORK_REQUIRED
    assert work_refusal(admission, good_work(14)) is False
    assert work_refusal(admission, bytes(8)) is Reason.WORK_TOO_LITTLE
    assert work_refusal(admission, good_work(14)[:7]) is Reason.WORK_TOO_LITTLE
    # The challenge is of before the attack: another is needed, which says how much.
    assert work_refusal(admission, good_work(14), asked_bits=0) is Reason.WORK_REQUIRED
    # What the challenge asked is enough, though the price has risen since.
    assert work_refusal(admission, good_work(10), asked_bits=10) is False


def test_who_has_a_session_needs_none() -> None:
    assert work_refusal(under_attack(), is_known=True) is False


def test_a_wallet_of_the_list_needs_none_if_its_signature_holds() -> None:
    admission = under_attack(replace(OPEN, allowed_wallets=frozenset(WALLETS[:1])))
    assert work_refusal(admission, claimed_wallet=WALLETS[0]) is True
    assert work_refusal(admission, good_work(14), claimed_wallet=WALLETS[0]) is False


def test_claims_to_be_of_the_list_are_limited_and_then_need_work_like_all() -> None:
    policy = replace(OPEN, allowed_wallets=frozenset(WALLETS[:2]), unworked_checks=Rate(per_second=1.0, burst=3))
    admission = under_attack(policy)
    claims = [work_refusal(admission, claimed_wallet=wallet) for wallet in WALLETS[:2] * 3]
    assert claims == [True] * 3 + [Reason.WORK_REQUIRED] * 3
    assert work_refusal(admission, good_work(14), claimed_wallet=WALLETS[0]) is False
    # What is no claim takes none of them.
    assert [work_refusal(admission, now=1.0) for _ in range(9)] == [Reason.WORK_REQUIRED] * 9
    assert work_refusal(admission, claimed_wallet=WALLETS[0], now=1.0) is True


def test_a_host_that_asks_no_work_asks_none_under_attack() -> None:
    admission = Admission(replace(OPEN, attack=AttackLimits(max_bits=0)))
    admission.attack.called(0.0, 100_000)
    assert work_refusal(admission) is False


STEPS = st.tuples(
    st.sampled_from(WALLETS), st.sampled_from(PEERS), st.sampled_from(["a", "b", None]), st.floats(0.0, 5.0)
)


@given(st.lists(STEPS, max_size=80), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_nobody_opens_more_than_its_rates_allow(
    steps: list[tuple[bytes, PeerId, str | None, float]], of_wallet: int, of_peer: int, of_network: int
) -> None:
    rates = {"wallet": of_wallet, "peer": of_peer, "network": of_network}
    admission = Admission(
        AdmissionPolicy(
            **{f"sessions_per_{whose}": Rate(per_second=0.5, burst=burst) for whose, burst in rates.items()}  # type: ignore[arg-type]
        )
    )
    taken: list[tuple[float, dict[str, object]]] = []
    words: set[Reason] = set()
    now, baseless = 0.0, 0
    for wallet, peer, network, later in steps:
        now += later
        who = {"wallet": wallet, "peer": peer, "network": network}
        full = [
            key
            for whose, key in who.items()
            if key is not None and level_of(taken, whose, key, now) + 1 > rates[whose] + 1e-6
        ]
        try:
            admission.admit(wallet, peer, network, now)
        except RefusedError as refused:
            words.add(refused.word)
            baseless += not full
        else:
            admission.opened(network, now)
            taken.append((now, who))
    assert words <= {Reason.RATE_LIMITED}
    assert baseless == 0
    for whose, burst in rates.items():
        for at, (start, who) in enumerate(taken):
            if who[whose] is None:
                continue
            same = [when for when, other in taken[at:] if other[whose] == who[whose]]
            for count, end in enumerate(same, start=1):
                assert count <= burst + 0.5 * (end - start) + 1e-3


def level_of(taken: list[tuple[float, dict[str, object]]], whose: str, key: object, now: float) -> float:
    """Return how full the bucket of a key is, reckoned from all that was taken."""
    level, at = 0.0, 0.0
    for when, who in taken:
        if who[whose] == key:
            level, at = max(0.0, level - 0.5 * (when - at)) + 1.0, when
    return max(0.0, level - 0.5 * (now - at))


def test_a_policy_has_bounds() -> None:
    for changes in (
        {"min_reputation": -1},
        {"min_reputation": 1001},
        {"allowed_wallets": frozenset({bytes(19)})},
        {"allowed_wallets": frozenset(number.to_bytes(20, "big") for number in range(MAX_ALLOWED + 1))},
    ):
        with pytest.raises(ConfigError):
            AdmissionPolicy(**changes)  # type: ignore[arg-type]


def test_memory_is_bounded_whoever_comes() -> None:
    admission = Admission(AdmissionPolicy())
    for number in range(20_000):
        admission.admit(number.to_bytes(20, "big"), PeerId(f"peer-{number}"), f"network-{number}", 0.0)
        admission.opened(f"network-{number}", 0.0)
    sizes = [len(getattr(admission, name)) for name in ("_of_wallet", "_of_peer", "_of_network")]
    assert sizes == [8192] * 3
