"""The page of the protocol names every reason, with its status, and the limits that the code has."""

import re
from pathlib import Path

from hostmesh.errors import BudgetExceededError
from hostmesh.identity.structs import Delegation, DelegationRevocation, PeerBinding, SessionAuthorization
from hostmesh.identity.typed_data import type_string
from hostmesh.sessions.admission.challenge_table import ChallengeLimits
from hostmesh.sessions.client_store import MAX_SESSIONS
from hostmesh.sessions.reasons import STATUS_OF, GrantFault, Reason
from hostmesh.sessions.server_limits import SessionServerLimits
from hostmesh.sessions.table import SessionLimits

PAGES = Path(__file__).parents[3] / "docs" / "protocols"
SESSION = (PAGES / "session.md").read_text()
BINDING = (PAGES / "binding.md").read_text()


def test_every_reason_is_explained() -> None:
    for word in [*Reason, *GrantFault]:
        assert f"`{word}`" in SESSION, word
    assert set(STATUS_OF) == set(Reason)


def test_the_statuses_are_those_of_the_code() -> None:
    rows = re.findall(r"\| `([A-Z_]+)` \| ([A-Z_]+) \|", SESSION)
    assert len(rows) == 44
    for word, status in rows:
        assert STATUS_OF[Reason(word)].name == status, word


def test_no_word_is_explained_that_is_not_given() -> None:
    known = {*Reason, *GrantFault, "UNAUTHORIZED", BudgetExceededError.code}
    assert set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", SESSION)) <= known


def test_the_limits_are_those_of_the_code() -> None:
    challenges, sessions, server = ChallengeLimits(), SessionLimits(), SessionServerLimits()
    unseen, contracts = server.delegations, server.contracts
    for row in (
        f"| life of a challenge | {challenges.lifetime_s:.0f} s |",
        f"| {challenges.per_peer} / {challenges.per_network} / {challenges.total} | refused with",
        f"| {server.checks_per_peer.per_second:.0f}/s, {server.checks_per_peer.burst} at once |",
        f"| {server.checks_of_strangers.per_second:.0f}/s, {server.checks_of_strangers.burst} at once |",
        f"| {sessions.per_peer} / {sessions.per_network} | refused |",
        f"| {sessions.total} | those that ended go, then the one idle longest if for {sessions.idle_s / 60:.0f} min;",
        f"| work begun at once in a session | {sessions.reservations} |",
        f"| nonces of sessions that had to go | {sessions.burnt} |",
        f"| least slice of a session | what {server.min_slice_tokens} tokens cost at",
        f"| slice of a session | what {server.max_slice_tokens} tokens cost at the host's price, or",
        f"of a free model {server.max_free_slice_micros} micro-units | refused |",
        f"| {unseen.per_peer} / {unseen.per_network} / {unseen.per_owner} / {unseen.total} | one of the same party",
        f"| {unseen.revocations_per_peer} / {unseen.revocations_per_network} / {unseen.revocations} |",
        f"| {contracts.at_once_per_peer} / {contracts.at_once}, {contracts.timeout_s:.0f} s each |",
        f"| sessions of a client that are not over | {MAX_SESSIONS} |",
    ):
        assert row in SESSION, row


def test_the_type_strings_are_those_of_the_code() -> None:
    assert type_string(PeerBinding) in BINDING
    page = re.sub(r",\s+(uint64|bytes32)", r",\1", SESSION)
    for struct in (SessionAuthorization, Delegation, DelegationRevocation):
        assert type_string(struct) in page
