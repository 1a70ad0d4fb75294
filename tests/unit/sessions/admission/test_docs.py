"""The pages say of admission what the code does."""

from __future__ import annotations

from pathlib import Path

from hostmesh.sessions.admission.attack import AttackLimits
from hostmesh.sessions.admission.challenge_cookies import MAX_BURNT
from hostmesh.sessions.admission.client_standing import MAX_WALLETS
from hostmesh.sessions.admission.deposits import MAX_PROOF_BYTES, DepositLimits
from hostmesh.sessions.admission.policy import AdmissionPolicy
from hostmesh.sessions.admission.work import WorkLimit

PAGE = " ".join((Path(__file__).parents[4] / "docs" / "protocols" / "session.md").read_text().split())


def test_the_numbers_are_those_of_the_code() -> None:
    attack, policy, work, deposits = AttackLimits(), AdmissionPolicy(), WorkLimit(), DepositLimits()
    rates = (policy.sessions_per_wallet, policy.sessions_per_peer, policy.sessions_per_network)
    assert all(rate.per_second * 60 == rate.burst for rate in rates)
    assert (attack.start_fullness, attack.end_fullness, attack.quiet_s) == (0.9, 0.7, 60)
    for words in (
        f"more than {attack.start_per_s:.0f} calls a second come to nothing",
        f"less than {attack.end_per_s:.0f} a second",
        f"w begins at {attack.first_bits}.",
        f"at most every {attack.step_s:.0f} s, while more than {attack.most_worked_per_s:.0f} strangers",
        f"up to {attack.max_bits} (`max_work_bits`), and falls while fewer than {attack.most_worked_per_s / 4:.0f} do",
        f"for one session: the host remembers, for these 60 s, those that opened one ({MAX_BURNT})",
        f"{policy.unworked_checks.per_second:.0f} a second ({policy.unworked_checks.burst} at once)",
        f"at most {work.max_bits} bits and {work.max_s:.0f} s by default",
        f"at most {deposits.at_once} at once and {deposits.timeout_s:.0f} s each",
        f"at most {MAX_PROOF_BYTES:,} bytes",
        f"`clients.sqlite3`, {MAX_WALLETS:,} wallets",
        "| new sessions of a wallet / of a peer / of a network | "
        + " / ".join(str(rate.burst) for rate in rates)
        + " a minute, and at once |",
    ):
        assert words in PAGE, words
