"""Whatever is lived through with keys under whatever wallets: another wallet is never a way up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.decay import UNIT_MICROS
from hostmesh.reputation.evidence import Evidence, EvidenceKind
from hostmesh.reputation.foreign import Reviews
from hostmesh.reputation.names import HostName
from hostmesh.reputation.reputations import Reputations
from hostmesh.reputation.score import points
from hostmesh.reputation.tally import NO_EVIDENCE, HostEvidence

KEYS = tuple(PeerId(f"12D3KooW{each}") for each in "ab")
WALLETS = tuple("0x" + each * 40 for each in "123")
NEW = "0x" + "9" * 40
_RATED = (EvidenceKind.CANARY_PASSED, EvidenceKind.CANARY_FAILED)
KINDS = [Evidence(kind=kind, false_positive_ppm=10_000 if kind in _RATED else None) for kind in EvidenceKind]
names = st.builds(HostName, st.sampled_from(KEYS), st.sampled_from(WALLETS))
days = st.integers(0, 300)
histories = st.lists(st.tuples(names, st.sampled_from(KINDS), days), max_size=30)
History = list[tuple[HostName, Evidence, int]]


def tallied(history: History) -> dict[HostName, HostEvidence]:
    evidence: dict[HostName, HostEvidence] = {}
    for name, each, day in history:
        evidence[name] = evidence.get(name, NO_EVIDENCE).after(each, day)
    return evidence


def on(history: History, day: int) -> Reputations:
    return Reputations(tallied(history), Reviews(), day)


@given(history=histories, day=days)
def test_a_new_wallet_is_never_better_than_any_name_of_the_key_nor_than_a_new_host(history: History, day: int) -> None:
    reputations = on(history, day)
    for key in KEYS:
        new = reputations.of(key, NEW)
        assert new.points <= min([100, *(reputations.of(*name).points for name in reputations.names(key))])
        assert new.good == 0


@given(history=histories, name=names, evidence=st.sampled_from(KINDS))
def test_nothing_under_one_name_lifts_another(history: History, name: HostName, evidence: Evidence) -> None:
    """On its day; later what speaks against a host fades, unless it is kept beside what speaks for it."""
    today = max((day for _, _, day in history), default=0)
    before, after = (on(each, today) for each in (history, [*history, (name, evidence, today)]))
    for key in KEYS:
        for wallet in (*WALLETS, NEW):
            if HostName(key, wallet) == name:
                continue
            if evidence.kind.is_good or key != name.peer_id:
                assert after.of(key, wallet) == before.of(key, wallet)
            else:
                assert after.of(key, wallet).points <= before.of(key, wallet).points


@given(history=histories, day=days)
def test_a_key_of_one_wallet_has_the_points_that_its_evidence_gives(history: History, day: int) -> None:
    history = [(HostName(name.peer_id, WALLETS[0]), evidence, at) for name, evidence, at in history]
    reputations = on(history, day)
    for name, evidence in tallied(history).items():
        weights, found = evidence.weights_on(day), reputations.of(*name)
        assert found.points == points(weights.good_micros, weights.bad_micros, unit=UNIT_MICROS)
        assert (found.good, found.bad) == (evidence.good, evidence.bad)
