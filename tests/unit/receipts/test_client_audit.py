"""A host that lies about what it did: nothing is countersigned, and what it signed itself is shown to a third party."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.support.receipts import (
    HOST,
    INPUT,
    NOW,
    PIECES,
    PRICE,
    SALT,
    chain_of,
    job_terms,
    quote,
    seal,
    write_receipts,
)

from hostmesh.errors import ReceiptError
from hostmesh.identity.structs import Receipt
from hostmesh.receipts.chain import JobInput, OutputChain, input_sha256
from hostmesh.receipts.client_ledger import Countersign, JobAudit, Refuse, Withhold
from hostmesh.receipts.counting import most_completion_tokens, most_prompt_tokens
from hostmesh.receipts.pricing import cost_micros
from hostmesh.receipts.proof import proof_from_json, proof_to_json, verify_proof
from hostmesh.receipts.receipt import JobState
from hostmesh.receipts.spending import SessionSpending
from hostmesh.receipts.terms import JobTerms
from hostmesh.receipts.writer import ReceiptWriter
from hostmesh.v1 import job_pb2

TERMS = job_terms()
RECEIPTS = write_receipts(TERMS)


class Words:
    """A tokenizer with a token a word; a message has two more."""

    tokenizer_sha256 = b"t" * 32

    def count_text(self, text: str) -> int:
        return len(text.split())

    def count_prompt(self, job_input: JobInput) -> int | None:
        assert isinstance(job_input, job_pb2.ChatInput)
        return sum(len(message.content.split()) + 2 for message in job_input.messages)


class NoTemplate(Words):
    """It cannot tell what the chat template adds."""

    def count_prompt(self, job_input: JobInput) -> int | None:
        return None


def audit_of(
    pieces: Sequence[tuple[str, int]] = PIECES,
    *,
    terms: JobTerms = TERMS,
    counter: Any = None,
    limit: int = 1_000,
    slice_micros: int = 100,
) -> JobAudit:
    """A client to whom these pieces came."""
    audit = JobAudit(
        terms,
        SessionSpending(limit_micros=limit, slice_micros=slice_micros),
        job_input=INPUT,
        salt=SALT,
        counter=counter,
    )
    for index, (text, tokens) in enumerate(pieces):
        audit.text(index, text, tokens)
    return audit


def claim(
    pieces: Sequence[tuple[str, int]] = PIECES, *, prompt_tokens: int = 31, terms: JobTerms = TERMS, **changes: Any
) -> Receipt:
    """The first receipt of a host that delivered these pieces; the cost fits whatever it claims."""
    writer = ReceiptWriter(terms, chain_of(terms))
    for text, tokens in pieces:
        writer.chain.add_text(text, tokens)
    receipt = writer.write(JobState.RUNNING, prompt_tokens=prompt_tokens, time_to_first_token_ms=9, now=NOW)
    receipt = replace(receipt, **changes)
    tokens = receipt.prompt_tokens + receipt.completion_tokens
    return replace(receipt, cost_micros=changes.get("cost_micros", cost_micros(tokens, receipt.price_micros_per_mtok)))


def refused(audit: JobAudit, receipt: Receipt) -> Refuse:
    verdict = audit.receipt(seal(receipt), now=NOW + 9)
    assert isinstance(verdict, Refuse)
    assert verdict.message
    return verdict


def shown(refusal: Refuse, counter: Any = None) -> str:
    """What a third party makes of the proof, which reaches it as text."""
    assert refusal.proof is not None
    lie = verify_proof(proof_from_json(proof_to_json(refusal.proof)), counter=counter)
    assert lie.host == HOST.peer_id
    assert lie.job_id == TERMS.job_id
    return lie.reason


@pytest.mark.parametrize("counter", [None, Words(), NoTemplate()])
def test_an_honest_job_is_countersigned_to_its_end(counter: Any) -> None:
    receipts = write_receipts(TERMS, prompt_tokens=5)
    audit = audit_of((), counter=counter)
    for index, receipt in enumerate(receipts):
        assert isinstance(audit.receipt(seal(receipt), now=NOW + 9), Countersign)
        if index < len(PIECES):
            audit.text(index, *PIECES[index])
    assert audit.last is not None
    assert audit.last.receipt == receipts[-1]
    assert audit.completion_tokens == 6


def test_what_is_countersigned_is_counted_and_a_refusal_is_not() -> None:
    spending = SessionSpending(limit_micros=1_000, slice_micros=100)
    audit = JobAudit(TERMS, spending, job_input=INPUT, salt=SALT)
    audit.receipt(seal(RECEIPTS[0]), now=NOW + 9)
    assert spending.spent_micros == 8
    assert refused(audit, RECEIPTS[1]).reason == "WRONG_PIECES"
    assert spending.spent_micros == 8


def test_a_price_that_was_not_quoted_is_shown_with_the_quote() -> None:
    receipt = claim(price_micros_per_mtok=PRICE + 1)
    refusal = refused(audit_of(), receipt)
    assert (refusal.reason, refusal.proof) == ("WRONG_PRICE", None)
    spending = SessionSpending(limit_micros=1_000, slice_micros=100)
    audit = JobAudit(TERMS, spending, job_input=INPUT, salt=SALT, quote=quote())
    refusal = refused(audit, receipt)
    assert (refusal.reason, shown(refusal)) == ("WRONG_PRICE", "WRONG_PRICE")


def test_what_a_receipt_shows_by_itself_is_shown_without_the_answer_and_the_quote() -> None:
    audit = JobAudit(
        TERMS, SessionSpending(limit_micros=1_000, slice_micros=100), job_input=INPUT, salt=SALT, quote=quote()
    )
    proof = refused(audit, replace(RECEIPTS[0], cost_micros=9)).proof
    assert proof is not None
    assert (proof.transcript, proof.quote) == (None, b"")


def test_prompts_come_to_a_slice_unless_a_piece_follows() -> None:
    """A prompt costs 8 micro-units, with the first piece 9."""
    spending = SessionSpending(limit_micros=1_000, slice_micros=16)

    def job(number: int, *, before: int = 0, after: int = 0) -> bool:
        """Whether a receipt is countersigned that came after so many pieces and before so many more."""
        terms = job_terms(bytes([number]) * 16)
        audit = JobAudit(terms, spending, job_input=INPUT, salt=SALT)
        for index in range(before):
            audit.text(index, *PIECES[index])
        verdict = audit.receipt(seal(claim(PIECES[:before], terms=terms)), now=NOW)
        for index in range(before, before + after):
            audit.text(index, *PIECES[index])
        spending.end(terms.job_id)
        # Its host knows nothing of this bound: that is no lie.
        assert isinstance(verdict, Countersign | Withhold)
        return isinstance(verdict, Countersign)

    assert [job(1, after=1), job(2, after=2)] == [True, True]
    assert [job(3), job(4), job(5)] == [True, True, False]
    assert [job(6, before=1), job(7, before=2), job(8)] == [True, True, False]


def test_what_was_withheld_is_countersigned_once_a_piece_came() -> None:
    spending = SessionSpending(limit_micros=1_000, slice_micros=16)
    spending.restore(b"other", 10, is_answered=False)
    audit = JobAudit(job_terms(), spending, job_input=INPUT, salt=SALT)
    assert audit.receipt(seal(claim(())), now=NOW) == Withhold()
    audit.text(0, *PIECES[0])
    verdict = audit.receipt(seal(claim(PIECES[:1], sequence=2)), now=NOW, is_asked_for=True)
    assert isinstance(verdict, Countersign)


def test_whatever_can_be_shown_of_a_wrong_receipt_is_shown() -> None:
    audit = audit_of()
    assert isinstance(audit.receipt(seal(claim()), now=NOW), Countersign)
    later = replace(claim(), sequence=2, model_id="another")
    refusal = refused(audit, later)
    # Without the quote nobody else knows which model was agreed; but the host named two.
    assert (refusal.reason, shown(refusal)) == ("WRONG_MODEL", "EQUIVOCATION")


def test_a_refusal_is_for_good() -> None:
    audit = audit_of()
    first = refused(audit, claim(cost_micros=99))
    assert first.reason == "WRONG_COST"
    assert refused(audit, claim()) is first


@pytest.mark.parametrize(
    ("reason", "receipt"),
    [
        ("WRONG_COST", claim(cost_micros=11)),
        ("WRONG_STATE", claim(state=9)),
        # More tokens than the host counted out with the pieces.
        ("WRONG_COMPLETION", claim(completion_tokens=7)),
        ("WRONG_COMPLETION", claim(completion_tokens=5)),
        ("WRONG_PIECES", claim(output_pieces=4)),
    ],
)
def test_a_receipt_that_contradicts_its_own_chain_is_a_proof(reason: str, receipt: Receipt) -> None:
    refusal = refused(audit_of(), receipt)
    assert refusal.reason == reason
    assert shown(refusal) == reason


@pytest.mark.parametrize(
    ("reason", "receipt"),
    [
        # The host delivered something else than it signed, or less: nobody else can know.
        ("WRONG_OUTPUT", claim([("Red,", 2), (" gray", 3), (" and blue.", 6)])),
        ("WRONG_OUTPUT", claim([("Red,", 2), (" green", 4), (" and blue.", 6)])),
        ("WRONG_OUTPUT", claim(output_hash=b"x" * 32)),
        ("WRONG_PIECES", claim([*PIECES, (" More.", 7)])),
        ("WRONG_PIECES", claim(PIECES[:2])),
        ("OVER_QUOTE", claim(prompt_tokens=2_043)),
    ],
)
def test_what_nobody_else_can_know_is_refused_without_a_proof(reason: str, receipt: Receipt) -> None:
    refusal = refused(audit_of(), receipt)
    assert refusal.reason == reason
    assert refusal.proof is None


def test_another_salt_or_prompt_is_another_chain() -> None:
    other = job_pb2.ChatInput(messages=[job_pb2.ChatMessage(role="user", content="Name four colours.")])
    for chain in (chain_of(TERMS, salt=b""), chain_of(TERMS, job_input=other)):
        receipt = replace(claim(()), output_hash=chain.head)
        assert refused(audit_of(()), receipt).reason == "WRONG_OUTPUT"


def test_padding_without_a_tokenizer_is_bounded_by_the_bytes() -> None:
    text = "abc"
    most = most_completion_tokens(len(text))
    assert most == 11
    assert isinstance(audit_of([(text, most)]).receipt(seal(claim([(text, most)])), now=NOW + 9), Countersign)
    refusal = refused(audit_of([(text, most + 1)]), claim([(text, most + 1)]))
    assert refusal.reason == "COMPLETION_OVER_BYTES"
    assert shown(refusal) == "COMPLETION_OVER_BYTES"


def test_bytes_are_of_utf_8_not_characters() -> None:
    text = "\N{GRINNING FACE}" * 4
    pieces = [(text, 4 * len(text) + 8)]
    assert isinstance(audit_of(pieces).receipt(seal(claim(pieces)), now=NOW + 9), Countersign)


def test_padding_is_seen_by_whoever_has_the_tokenizer() -> None:
    text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    # 16 words, a sixteenth of them and eight silent ones.
    for tokens, verdict in ((25, Countersign), (26, Refuse)):
        pieces = [(text, tokens)]
        assert isinstance(audit_of(pieces).receipt(seal(claim(pieces, prompt_tokens=5)), now=NOW + 9), Countersign)
        assert isinstance(
            audit_of(pieces, counter=Words()).receipt(seal(claim(pieces, prompt_tokens=5)), now=NOW + 9), verdict
        )
    refusal = refused(audit_of([(text, 26)], counter=Words()), claim([(text, 26)], prompt_tokens=5))
    assert refusal.reason == "COMPLETION_OVER_COUNT"
    assert shown(refusal, Words()) == "COMPLETION_OVER_COUNT"
    # A third party without the tokenizer sees no lie.
    with pytest.raises(ReceiptError) as raised:
        shown(refusal)
    assert raised.value.reason == "NOT_PROVED"


class Nameless(Words):
    """A tokenizer whose digest is that of none."""

    tokenizer_sha256 = bytes(32)


def test_a_tokenizer_that_was_not_quoted_counts_nothing() -> None:
    for terms, counter in (
        (job_terms(tokenizer_sha256=b"u" * 32), Words()),
        (job_terms(tokenizer_sha256=bytes(32)), Words()),
        (job_terms(tokenizer_sha256=bytes(32)), Nameless()),
    ):
        pieces = [("one two three", 20)]
        audit = audit_of(pieces, terms=terms, counter=counter)
        assert isinstance(audit.receipt(seal(claim(pieces, terms=terms)), now=NOW + 9), Countersign)


def test_inflated_prompts() -> None:
    bytes_bound = len("Name three colours.") + 64 + 1024
    assert most_prompt_tokens(INPUT) == bytes_bound
    spending = {"slice_micros": 1_000}
    for tokens, counter, reason in (
        (bytes_bound, None, None),
        (bytes_bound + 1, None, "PROMPT_OVER_BYTES"),
        (5 + 8, Words(), None),
        (5 + 9, Words(), "PROMPT_OVER_COUNT"),
        # Three words, and what a template may add.
        (3 + 64 + 1024, NoTemplate(), None),
        (3 + 64 + 1025, NoTemplate(), "PROMPT_OVER_COUNT"),
        (bytes_bound + 1, NoTemplate(), "PROMPT_OVER_BYTES"),
    ):
        verdict = audit_of(counter=counter, **spending).receipt(seal(claim(prompt_tokens=tokens)), now=NOW + 9)
        if reason is None:
            assert isinstance(verdict, Countersign)
        else:
            assert isinstance(verdict, Refuse)
            assert verdict.reason == reason
            assert shown(verdict, counter) == reason


def test_a_lie_about_the_answer_does_not_disclose_the_prompt() -> None:
    refusal = refused(audit_of(), claim(completion_tokens=7))
    assert refusal.proof is not None
    assert refusal.proof.transcript is not None
    assert refusal.proof.transcript.job_input is None
    assert "Name three" not in repr(refusal.proof)


def test_pieces_that_break_the_protocol() -> None:
    audit = audit_of([("Red", 2)])
    for index, text, tokens, reason in (
        (1, "", 3, "EMPTY_PIECE"),
        (0, "Red", 2, "PIECE_OUT_OF_ORDER"),
        (2, "Red", 2, "PIECE_OUT_OF_ORDER"),
        (1, " green", 1, "TOKENS_WENT_BACK"),
        (1, "x" * (16 * 1024 * 1024), 3, "TRANSCRIPT_TOO_LONG"),
    ):
        with pytest.raises(ReceiptError) as raised:
            audit.text(index, text, tokens)
        assert raised.value.reason == reason
    assert isinstance(audit.receipt(seal(claim([("Red", 2)])), now=NOW), Countersign)


def test_never_more_than_the_slice_at_once() -> None:
    # 31 and 6 tokens at a quarter are 10 micro-units.
    assert isinstance(audit_of(slice_micros=10).receipt(seal(claim()), now=NOW), Countersign)
    refusal = refused(audit_of(slice_micros=9), claim())
    assert (refusal.reason, refusal.proof) == ("OVER_SLICE", None)


def test_never_more_than_the_limit_in_all_jobs() -> None:
    spending = SessionSpending(limit_micros=19, slice_micros=10)
    spending.restore(b"k" * 16, 9, is_answered=True)
    audit = JobAudit(TERMS, spending, job_input=INPUT, salt=SALT)
    for index, piece in enumerate(PIECES):
        audit.text(index, *piece)
    assert isinstance(audit.receipt(seal(claim()), now=NOW), Countersign)
    assert spending.spent_micros == 19
    second = job_terms(b"l" * 16)
    audit = JobAudit(second, spending, job_input=INPUT, salt=SALT)
    refusal = refused(audit, claim((), prompt_tokens=1, terms=second))
    assert refusal.reason == "OVER_LIMIT"


def test_of_receipts_over_the_same_pieces_four_are_taken_and_the_last_one() -> None:
    class Counting(Words):
        counted = 0

        def count_text(self, text: str) -> int:
            self.counted += 1
            return super().count_text(text)

    for state, verdict in (
        (JobState.RUNNING, Refuse),
        (JobState.SUCCEEDED, Countersign),
        (JobState.FAILED, Countersign),
    ):
        counter = Counting()
        audit = audit_of(counter=counter)
        writer = ReceiptWriter(TERMS, chain_of(TERMS))
        for text, tokens in PIECES:
            writer.chain.add_text(text, tokens)
        for each in [JobState.RUNNING] * 4 + [state]:
            receipt = writer.write(each, prompt_tokens=5, time_to_first_token_ms=9, now=NOW)
            said = audit.receipt(seal(receipt), now=NOW)
            if receipt.sequence <= 4:
                assert isinstance(said, Countersign)
        assert isinstance(said, verdict)
        if isinstance(said, Refuse):
            assert said.reason == "WRONG_PIECES"
            counted = counter.counted
            for _ in range(5):
                audit.receipt(seal(receipt), now=NOW)
            assert counter.counted == counted


def test_pieces_between_receipts_begin_the_count_anew() -> None:
    audit = audit_of(())
    writer = ReceiptWriter(TERMS, chain_of(TERMS))
    for index, (text, tokens) in enumerate((("", 0), *PIECES)):
        if text:
            writer.chain.add_text(text, tokens)
            audit.text(index - 1, text, tokens)
        for _ in range(4):
            receipt = writer.write(JobState.RUNNING, prompt_tokens=5, time_to_first_token_ms=9, now=NOW)
            assert isinstance(audit.receipt(seal(receipt), now=NOW), Countersign)


def test_a_failed_job_is_countersigned_for_what_was_said_before() -> None:
    audit = audit_of((), terms=TERMS)
    writer = ReceiptWriter(TERMS, chain_of(TERMS))
    failed = writer.write(JobState.FAILED, prompt_tokens=31, time_to_first_token_ms=9, now=NOW)
    assert isinstance(audit.receipt(seal(failed), now=NOW), Countersign)
    strange = replace(failed, output_hash=b"x" * 32)
    assert refused(audit_of(()), strange).reason == "WRONG_OUTPUT"


def test_vectors() -> None:
    texts = job_pb2.EmbeddingInput(texts=["one", "two"])
    terms = job_terms(max_output_tokens=0, context_tokens=4)
    chain = OutputChain(
        salt=SALT, session_id=terms.session.session_id, job_id=terms.job_id, input_sha256=input_sha256(texts)
    )
    writer = ReceiptWriter(terms, chain)

    def audit() -> JobAudit:
        fresh = JobAudit(terms, SessionSpending(limit_micros=9, slice_micros=9), job_input=texts, salt=SALT)
        fresh.vector(0, [1.0, 0.5])
        fresh.vector(1, [0.25, -1.0])
        return fresh

    chain.add_vector([1.0, 0.5])
    chain.add_vector([0.25, -1.0])
    # Four tokens for each text.
    done = writer.write(JobState.SUCCEEDED, prompt_tokens=8, time_to_first_token_ms=1, now=NOW)
    assert isinstance(audit().receipt(seal(done), now=NOW), Countersign)
    over = replace(done, prompt_tokens=9, cost_micros=3)
    assert refused(audit(), over).reason == "OVER_QUOTE"
    padded = replace(done, completion_tokens=1, cost_micros=3)
    refusal = refused(audit(), padded)
    assert (refusal.reason, shown(refusal)) == ("WRONG_COMPLETION", "WRONG_COMPLETION")
    with pytest.raises(ReceiptError):
        audit().vector(2, [])
