"""The table of challenges against a list that is searched from end to end."""

import hashlib
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from hostmesh.net.peer_id import PeerId
from hostmesh.sessions.admission.challenge_table import ChallengeLimits, ChallengeTable
from hostmesh.sessions.reasons import Reason, RefusedError

LIMITS = ChallengeLimits(per_peer=2, per_network=3, total=6, lifetime_s=60.0)
peers = st.sampled_from([PeerId(f"peer {number}") for number in range(6)])
networks = st.sampled_from([None, "203.0.113.0/24", "198.51.100.0/24"])


@dataclass
class Issued:
    nonce: bytes
    peer_id: PeerId
    network: str | None
    at: float
    burnt: bool = False


class Challenges(RuleBasedStateMachine):
    nonces = Bundle("nonces")

    def __init__(self) -> None:
        super().__init__()
        self.table = ChallengeTable(LIMITS)
        self.issued: list[Issued] = []
        self.now = 0.0

    def open(self) -> list[Issued]:
        return [entry for entry in self.issued if not entry.burnt and self.now - entry.at < 60.0]

    @rule(seconds=st.sampled_from([0.5, 10.0, 30.0, 59.5, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=nonces, peer=peers, network=networks)
    def issue(self, peer: PeerId, network: str | None) -> bytes:
        nonce = hashlib.sha256(str(len(self.issued)).encode() + b"%f" % self.now).digest()
        still = self.open()
        fits = (
            len(still) < 6
            and sum(entry.peer_id == peer for entry in still) < 2
            and (network is None or sum(entry.network == network for entry in still) < 3)
        )
        try:
            expires = self.table.issue(peer, nonce=nonce, now=self.now, network_key=network)
        except RefusedError as error:
            assert not fits
            assert error.word is Reason.TOO_MANY_CHALLENGES  # noqa: PT017
            assert error.retry_after_s is not None  # noqa: PT017
            assert 0 < error.retry_after_s <= 60  # noqa: PT017
        else:
            assert fits
            assert expires == self.now + 60
            self.issued.append(Issued(nonce, peer, network, self.now))
        return nonce

    @rule(nonce=nonces, peer=peers)
    def check(self, nonce: bytes, peer: PeerId) -> None:
        known = any(entry.nonce == nonce and entry.peer_id == peer for entry in self.open())
        try:
            self.table.check(nonce, peer, self.now)
        except RefusedError as error:
            assert not known
            assert error.word is Reason.UNKNOWN_CHALLENGE  # noqa: PT017
        else:
            assert known

    @rule(nonce=nonces)
    def burn(self, nonce: bytes) -> None:
        self.table.burn(nonce)
        for entry in self.issued:
            if entry.nonce == nonce:
                entry.burnt = True

    @invariant()
    def holds_what_is_open_and_no_more_than_the_bounds(self) -> None:
        self.table.expire(self.now)
        assert len(self.table) == len(self.open()) <= LIMITS.total


Challenges.TestCase.settings = settings(stateful_step_count=40, deadline=None)
TestChallenges = Challenges.TestCase
