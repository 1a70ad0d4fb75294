"""Bindings of one wallet by epoch: the highest wins in any order; bans and revocations fall on earlier ones alone."""

from __future__ import annotations

from collections.abc import Sequence

from discovery_world import EPOCH, NETWORK, make_description, make_info, make_operator, make_record, trusting_verifier
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.discovery.equivocation import make_proof
from hostmesh.discovery.record import HostInfo, verify_record
from hostmesh.discovery.revocations import LIFE_S, RevokedEpoch
from hostmesh.discovery.room import Familiarity
from hostmesh.discovery.table import HostTable, Merge

NOW = EPOCH + 60
HOST = make_info().peer_id
OPERATOR = make_operator("host")
SIGNED = {
    (epoch, sequence, model): make_record(
        "host", make_description(model), sequence=sequence, epoch=epoch, issued=EPOCH + 5 * sequence
    )
    for epoch in (0, 1, 2)
    for sequence in (1, 2, 3)
    for model in ("m", "n")
}
RECORDS: dict[tuple[int, int, str], HostInfo] = {
    key: verify_record(signed, expected_peer_id=None, network=NETWORK, now=NOW, verify_binding=trusting_verifier)
    for key, signed in SIGNED.items()
}
some = st.lists(st.sampled_from(sorted(RECORDS)), max_size=8)


def table_of(keys: Sequence[tuple[int, int, str]]) -> HostTable:
    table = HostTable()
    for key in keys:
        table.merge(RECORDS[key], now=NOW)
    return table


def state_of(table: HostTable) -> tuple[object, ...]:
    known = table.known(HOST, NOW)
    live = None if known is None else (known.info.binding_epoch, known.info.sequence, known.info.digest)
    return live, table.revocations.least_epoch(OPERATOR, HOST, NOW)


@given(keys=some, data=st.data())
def test_the_order_of_arrival_does_not_matter_among_honest_records(
    keys: list[tuple[int, int, str]], data: st.DataObject
) -> None:
    honest = [key for key in keys if key[2] == "m"]
    assert state_of(table_of(honest)) == state_of(table_of(data.draw(st.permutations(honest))))


@given(some)
def test_the_highest_epoch_stands_and_within_it_the_highest_sequence(keys: list[tuple[int, int, str]]) -> None:
    honest = [key for key in keys if key[2] == "m"]
    known = table_of(honest).known(HOST, NOW)
    if not honest:
        assert known is None
        return
    assert known is not None
    assert (known.info.binding_epoch, known.info.sequence) == max(key[:2] for key in honest)


@given(some)
def test_a_key_is_banned_under_the_epochs_in_which_it_lied_and_no_later(keys: list[tuple[int, int, str]]) -> None:
    """Liars are judged as far as their lies were seen: an earlier binding's record is refused before it is compared."""
    table = HostTable()
    lied_in = -1
    seen: set[tuple[int, int, str]] = set()
    highest = 0
    for key in keys:
        epoch, sequence, model = key
        merge = table.merge(RECORDS[key], now=NOW)
        if epoch <= lied_in:
            assert merge is Merge.BANNED
        elif epoch < highest:
            assert merge is Merge.REVOKED
        else:
            if epoch > highest:
                seen.clear()
            highest = epoch
            other = (epoch, sequence, "n" if model == "m" else "m")
            assert (merge is Merge.EQUIVOCATION) == (other in seen)
            seen.add(key)
            if merge is Merge.EQUIVOCATION:
                lied_in = epoch
    assert [ban.epoch for ban in table.bans] == ([lied_in] if lied_in >= 0 else [])
    later = make_info("host", sequence=1, epoch=max(lied_in, highest) + 1)
    assert table.merge(later, now=NOW) in (Merge.ADDED, Merge.REPLACED)
    assert table.known(HOST, NOW) is not None


@given(
    proved=st.integers(0, 2),
    bound=st.integers(0, 2),
    replays=st.integers(1, 4),
    is_known=st.booleans(),
)
def test_a_proof_however_often_it_is_replayed_takes_no_later_binding_out(
    proved: int, bound: int, replays: int, is_known: bool
) -> None:
    proof = make_proof(SIGNED[proved, 1, "m"], SIGNED[proved, 1, "n"], network=NETWORK)
    assert proof.epoch == proved
    table = HostTable()
    if is_known:
        table.merge(RECORDS[bound, 3, "m"], now=NOW)
    for _ in range(replays):
        table.ban(proof.peer_id, epoch=proof.epoch, now=NOW, introducer=make_info("gossip").peer_id)
    merge = table.merge(RECORDS[bound, 3, "m"], now=NOW)
    assert (merge is Merge.BANNED) == (bound <= proved)
    assert (table.known(HOST, NOW) is None) == (bound <= proved)


@given(keys=some, least=st.integers(1, 3), position=st.integers(0, 8))
def test_a_revocation_wins_whenever_it_comes(keys: list[tuple[int, int, str]], least: int, position: int) -> None:
    honest = [key for key in keys if key[2] == "m"]
    table = HostTable()
    entry = RevokedEpoch(
        operator=OPERATOR,
        peer_id=HOST,
        least_epoch=least,
        told_at_unix_s=NOW,
        expires_at_unix_s=NOW + LIFE_S,
        familiarity=Familiarity.STRANGER,
        signed=b"signed",
    )
    for index, key in enumerate([*honest, None]):
        if index == min(position, len(honest)):
            table.revoke(entry)
            known = table.known(HOST, NOW)
            assert known is None or known.info.binding_epoch >= least
        if key is not None:
            table.merge(RECORDS[key], now=NOW)
    known = table.known(HOST, NOW)
    good = [key[:2] for key in honest if key[0] >= least]
    assert (None if known is None else (known.info.binding_epoch, known.info.sequence)) == max(good, default=None)
