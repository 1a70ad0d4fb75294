"""The table of sessions against a naive model: whose, in what state, and never owed more than the limit."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from hostmesh.identity.structs import SessionAuthorization
from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.reasons import Reason, RefusedError
from hostmesh.sessions.record import SessionRecord, SessionState
from hostmesh.sessions.table import SessionLimits, SessionTable

LIMITS = SessionLimits(per_peer=3, per_network=4, total=6, idle_s=100.0, reservations=3)
PEERS = [PeerId(f"peer {number}") for number in range(4)]
MODELS = ["m-3", "m-30"]


@dataclass
class Model:
    number: int
    terms: SessionAuthorization
    peer: PeerId
    network: str | None
    record: SessionRecord
    used_at: int
    closed: bool = False
    gone: bool = False
    evicted: bool = False
    spent: int = 0
    held: dict[int, int] = field(default_factory=dict)

    def expired(self, now: int) -> bool:
        return now >= self.terms.expires_at_unix_s

    def active(self, now: int) -> bool:
        return not (self.gone or self.closed or self.expired(now))

    def kept(self, now: int) -> bool:
        """Whether the table still has it: it is dropped on expiry once no work of it runs."""
        return not self.gone and (not self.expired(now) or bool(self.held))

    def left(self) -> int:
        return self.terms.spending_limit_micros - self.spent - sum(self.held.values())


def id_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


class Sessions(RuleBasedStateMachine):
    sessions = Bundle("sessions")
    reservations = Bundle("reservations")

    def __init__(self) -> None:
        super().__init__()
        self.table = SessionTable(LIMITS)
        self.models: list[Model] = []
        self.now = 1000

    def forget_dropped(self) -> None:
        for model in self.models:
            if not model.kept(self.now):
                model.gone = True

    @rule(seconds=st.sampled_from([1, 50, 100, 300]))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.table.expire(self.now)
        self.forget_dropped()

    def make_terms(self, number: int, model_id: str, limit: int, lifetime: int) -> SessionAuthorization:
        return SessionAuthorization(
            client=bytes(20),
            operator=bytes(20),
            client_peer_id=b"c",
            host_peer_id=b"h",
            nonce=number.to_bytes(32, "big"),
            model_id=model_id,
            max_price_micros_per_mtok=1,
            currency="USD",
            spending_limit_micros=limit,
            slice_micros=1_000,
            issued_at_unix_s=self.now,
            expires_at_unix_s=self.now + lifetime,
        )

    @rule(
        target=sessions,
        peer=st.sampled_from(PEERS),
        network=st.sampled_from([None, "net"]),
        model_id=st.sampled_from(MODELS),
        limit=st.integers(0, 100),
        lifetime=st.sampled_from([60, 250, 1000]),
    )
    def open(self, peer: PeerId, network: str | None, model_id: str, limit: int, lifetime: int) -> Model | object:
        number = len(self.models)
        terms = self.make_terms(number, model_id, limit, lifetime)
        active = [model for model in self.models if model.active(self.now)]
        kept = [model for model in self.models if model.kept(self.now)]
        full = sum(model.peer == peer for model in active) >= 3 or (
            network is not None and sum(model.network == network for model in active) >= 4
        )
        victims: list[Model] = []
        if not full and len(kept) >= 6:
            ended = [model for model in kept if not model.active(self.now) and not model.held]
            idle = [model for model in active if not model.held]
            oldest = min((model.used_at for model in idle), default=self.now)
            victims = ended or [model for model in idle if model.used_at == oldest and self.now - model.used_at >= 100]
            full = not victims
        try:
            record = self.table.open(
                terms, b"s", session_id=id_of(number), peer_id=peer, grant=b"g", now=self.now, network_key=network
            )
        except RefusedError as error:
            assert full
            assert error.word is Reason.TOO_MANY_SESSIONS  # noqa: PT017
            return multiple()
        assert not full
        if victims:
            dropped = [model for model in victims if not self.holds(model)]
            assert len(dropped) == 1
            dropped[0].gone = dropped[0].evicted = True
        model = Model(number, terms, peer, network, record, self.now)
        self.models.append(model)
        return model

    def holds(self, model: Model) -> bool:
        try:
            self.table.close(id_of(model.number), PeerId("nobody"), self.now)
        except RefusedError as error:
            return error.word is Reason.SESSION_OF_ANOTHER_PEER
        raise AssertionError("a stranger closed a session")

    @rule(model=sessions, peer=st.sampled_from(PEERS), model_id=st.sampled_from(MODELS))
    def use(self, model: Model, peer: PeerId, model_id: str) -> None:
        expected = None
        if not model.kept(self.now):
            expected = Reason.UNKNOWN_SESSION
        elif peer != model.peer:
            expected = Reason.SESSION_OF_ANOTHER_PEER
        elif model.expired(self.now):
            expected = Reason.SESSION_EXPIRED
        elif model.closed:
            expected = Reason.SESSION_CLOSED
        elif model_id != model.terms.model_id:
            expected = Reason.WRONG_MODEL
        try:
            record = self.table.use(id_of(model.number), peer, model_id, self.now)
        except RefusedError as error:
            assert error.word is expected  # noqa: PT017
        else:
            assert expected is None
            assert record is model.record
            model.used_at = self.now

    @rule(model=sessions, peer=st.sampled_from(PEERS), other_terms=st.booleans(), other_signature=st.booleans())
    def repeat(self, model: Model, peer: PeerId, other_terms: bool, other_signature: bool) -> None:
        terms = model.terms
        if other_terms:
            terms = self.make_terms(model.number, "m-300", 7, 60)
        signature = b"t" if other_signature else b"s"
        same = peer == model.peer and not other_terms and not other_signature
        try:
            found = self.table.repeated(terms, signature, peer, self.now)
        except RefusedError as error:
            assert error.word is Reason.REPLAYED  # noqa: PT017
            # Of one that had to go, the nonce is known for as long as its authorisation holds.
            assert model.kept(self.now) or (model.evicted and not model.expired(self.now))
            assert not (same and model.active(self.now))
        else:
            if model.kept(self.now):
                assert same
                assert model.active(self.now)
                assert found is model.record
            else:
                assert found is None
                assert not model.evicted or model.expired(self.now)

    @rule(model=sessions, peer=st.sampled_from(PEERS))
    def close(self, model: Model, peer: PeerId) -> None:
        try:
            state = self.table.close(id_of(model.number), peer, self.now)
        except RefusedError:
            assert not model.kept(self.now) or peer != model.peer
            return
        assert model.kept(self.now)
        assert peer == model.peer
        if not model.expired(self.now):
            model.closed = True
            assert state is (SessionState.CLOSING if model.held else SessionState.CLOSED)
        else:
            assert state is SessionState.EXPIRED

    @rule(target=reservations, model=sessions, amount=st.integers(0, 60))
    def reserve(self, model: Model, amount: int) -> tuple[Model, int] | object:
        if not model.kept(self.now):
            return multiple()
        fits = model.active(self.now) and amount <= model.left() and len(model.held) < 3
        try:
            reservation = self.table.reserve(model.record, amount)
        except RefusedError:
            assert not fits
            return multiple()
        assert fits
        model.held[reservation] = amount
        return model, reservation

    @rule(taken=consumes(reservations), cost=st.integers(0, 200))
    def settle(self, taken: tuple[Model, int], cost: int) -> None:
        model, reservation = taken
        del model.held[reservation]
        owed = min(cost, model.left())
        assert self.table.settle(model.record, reservation, cost) == owed
        assert self.table.settle(model.record, reservation, cost) == 0
        model.spent += owed
        self.forget_dropped()

    @rule(taken=consumes(reservations))
    def release(self, taken: tuple[Model, int]) -> None:
        model, reservation = taken
        del model.held[reservation]
        self.table.release(model.record, reservation)
        self.table.release(model.record, reservation)
        self.forget_dropped()

    @invariant()
    def nobody_owes_more_than_the_limit(self) -> None:
        for model in self.models:
            record = model.record
            assert record.spent_micros == model.spent
            assert record.reserved_micros == sum(model.held.values())
            assert 0 <= record.spent_micros + record.reserved_micros <= model.terms.spending_limit_micros

    @invariant()
    def the_table_is_bounded_and_counts_its_peers(self) -> None:
        kept = [model for model in self.models if model.kept(self.now)]
        active = [model for model in self.models if model.active(self.now)]
        assert len(self.table) == len(kept) <= LIMITS.total
        assert self.table.active_count() == len(active)
        for peer in PEERS:
            assert self.table.knows(peer) == any(model.peer == peer for model in active)


Sessions.TestCase.settings = settings(stateful_step_count=50, deadline=None)
TestSessions = Sessions.TestCase
