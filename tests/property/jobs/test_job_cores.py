"""The pure parts of jobs against naive models, and against garbage."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule
from tests.unit.jobs.kit import CLIENT_KEY, HOST_KEY, NETWORK
from tests.unit.jobs.test_transcript import OFFER

from hostmesh.errors import JobError, ParameterError, RemoteProtocolError
from hostmesh.jobs.admission import Admission, JobLimits
from hostmesh.jobs.content import build_input
from hostmesh.jobs.offer import open_quote
from hostmesh.jobs.parameters import ALLOWED, MAX_PARAMETERS, check_parameters, decode_parameters, encode_parameters
from hostmesh.jobs.quotes import QuoteBook, QuotedTerms
from hostmesh.jobs.transcript import Transcript
from hostmesh.net.peer_id import PeerId
from hostmesh.receipts.pricing import cost_micros, due_micros
from hostmesh.v1 import job_pb2

TOKENS = st.integers(0, 2**40)
PRICES = st.integers(0, 2**63)


@given(tokens=TOKENS, price=PRICES)
def test_the_cost_is_the_exact_one_rounded_up(tokens: int, price: int) -> None:
    exact = Fraction(tokens * price, 1_000_000)
    assert exact <= cost_micros(tokens, price) < exact + 1


@given(cuts=st.lists(TOKENS, max_size=50), price=PRICES)
def test_any_slicing_of_a_job_bills_the_same(cuts: list[int], price: int) -> None:
    counts = sorted([0, *cuts])
    bill = sum(due_micros(before, after, price) for before, after in pairwise(counts))
    assert bill == cost_micros(counts[-1], price)


@given(tokens=TOKENS, more=TOKENS, price=PRICES, dearer=PRICES)
def test_more_tokens_or_a_higher_price_never_cost_less(tokens: int, more: int, price: int, dearer: int) -> None:
    assert cost_micros(tokens + more, price + dearer) >= cost_micros(tokens, price)


def unit(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high) | st.integers(round(low), round(high))


GOOD = st.fixed_dictionaries(
    {},
    optional={
        "temperature": unit(0, 2),
        "top_p": st.floats(0, 1, exclude_min=True),
        "top_k": st.integers(0, 1000),
        "seed": st.integers(0, 2**31 - 1),
        "stop": st.lists(st.text(min_size=1, max_size=64), min_size=1, max_size=16),
        "frequency_penalty": unit(-2, 2),
        "presence_penalty": unit(-2, 2),
    },
)


@given(GOOD)
def test_parameters_survive_the_wire(parameters: dict[str, Any]) -> None:
    checked = check_parameters(parameters)
    sent = job_pb2.QuoteRequest(model_id="m", parameters=encode_parameters(checked))
    arrived = job_pb2.QuoteRequest.FromString(sent.SerializeToString())
    assert decode_parameters(arrived.parameters) == checked
    assert check_parameters(checked) == checked


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.text() | st.integers())
)


@given(st.dictionaries(st.sampled_from(sorted(ALLOWED)) | st.text(), VALUES))
def test_any_parameters_pass_or_are_refused_by_name(parameters: dict[str, Any]) -> None:
    refused: ParameterError | None = None
    try:
        checked = check_parameters(parameters)
    except ParameterError as error:
        refused = error
    if refused is None:
        assert checked.keys() == parameters.keys()
    elif len(parameters) > MAX_PARAMETERS:
        assert refused.parameter == "parameters"
    else:
        assert refused.parameter in parameters


EVENTS = st.one_of(
    st.builds(
        lambda position: job_pb2.RunResponse(accepted=job_pb2.JobAccepted(job_id=b"j" * 16, queue_position=position)),
        st.integers(0, 5),
    ),
    st.builds(
        lambda index, text: job_pb2.RunResponse(text=job_pb2.TextDelta(index=index, text=text)),
        st.integers(0, 3),
        st.text(max_size=3),
    ),
    st.builds(
        lambda index, values: job_pb2.RunResponse(vector=job_pb2.EmbeddingVector(index=index, values=values)),
        st.integers(0, 3),
        st.lists(st.floats(width=32), max_size=3),
    ),
    st.builds(
        lambda prompt, completion, cost, reason: job_pb2.RunResponse(
            completed=job_pb2.JobCompleted(
                usage=job_pb2.Usage(prompt_tokens=prompt, completion_tokens=completion, cost_micros=cost),
                finish_reason=reason,
            )
        ),
        st.integers(0, 2**64 - 1) | st.integers(0, 20),
        st.integers(0, 2**64 - 1) | st.integers(0, 20),
        st.integers(0, 2**64 - 1) | st.integers(0, 9),
        st.sampled_from(["stop", "length", "", "x"]),
    ),
    st.just(job_pb2.RunResponse()),
)


@given(
    responses=st.lists(EVENTS, max_size=8),
    wire=st.sampled_from([build_input(prompt="abc"), build_input(texts=["a", "b"])]),
)
def test_a_host_can_cause_one_kind_of_error_only(responses: list[job_pb2.RunResponse], wire: Any) -> None:
    transcript = Transcript(OFFER, wire)
    texts = []
    try:
        for response in responses:
            event = transcript.event(response)
            if response.WhichOneof("event") == "text":
                texts.append(event)
        transcript.end()
    except RemoteProtocolError:
        return
    usage = responses[-1].completed.usage
    assert responses[0].WhichOneof("event") == "accepted"
    assert usage.cost_micros == cost_micros(usage.prompt_tokens + usage.completion_tokens, OFFER.price_micros_per_mtok)
    assert [text.index for text in texts] == list(range(len(texts)))  # type: ignore[union-attr]


@given(st.binary(max_size=300))
def test_garbage_is_no_quote(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        open_quote(
            data,
            network=NETWORK,
            client_peer_id=CLIENT_KEY.peer_id,
            host_peer_id=HOST_KEY.peer_id,
            model_id="m",
            max_output_tokens=None,
            max_price_micros_per_mtok=None,
            currency=None,
            now=0.0,
        )


PEERS = st.sampled_from([PeerId(name) for name in ("ann", "bob", "eve")])


class AdmissionMachine(RuleBasedStateMachine):
    """Admission against two lists."""

    jobs: Bundle[bytes] = Bundle("jobs")
    limits = JobLimits(max_concurrent_jobs=2, max_queued_jobs=3, max_jobs_per_peer=3)

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission(self.limits)
        self.running: list[tuple[bytes, PeerId]] = []
        self.waiting: list[tuple[bytes, PeerId]] = []
        self.count = 0
        self.draining = False

    @rule(target=jobs, peer=PEERS)
    def submit(self, peer: PeerId) -> Any:
        self.count += 1
        job = self.count.to_bytes(4, "big")
        held = sum(owner == peer for _, owner in self.running + self.waiting)
        expected: str | int
        if self.draining:
            expected = "DRAINING"
        elif held >= 3 or (len(self.running) == 2 and len(self.waiting) == 3):
            expected = "BUSY"
        else:
            expected = 0 if len(self.running) < 2 else len(self.waiting) + 1
        try:
            got: str | int = self.admission.submit(job, peer)
        except JobError as error:
            got = error.reason
        assert got == expected
        if isinstance(got, int):
            (self.running if got == 0 else self.waiting).append((job, peer))
        return job

    @rule(job=consumes(jobs))
    def leave(self, job: bytes) -> None:
        if job in [name for name, _ in self.waiting]:
            self.waiting = [entry for entry in self.waiting if entry[0] != job]
            assert self.admission.leave(job) is None
        elif job in [name for name, _ in self.running]:
            self.running = [entry for entry in self.running if entry[0] != job]
            promoted = self.waiting.pop(0) if self.waiting else None
            if promoted is not None:
                self.running.append(promoted)
            assert self.admission.leave(job) == (promoted[0] if promoted else None)

    @precondition(lambda self: self.count > 10)
    @rule()
    def drain(self) -> None:
        self.admission.drain()
        self.draining = True

    @invariant()
    def counts_agree(self) -> None:
        assert (self.admission.active, self.admission.queued) == (len(self.running), len(self.waiting))


class QuoteBookMachine(RuleBasedStateMachine):
    """The book of quotes against one list, bounds included."""

    quotes: Bundle[bytes] = Bundle("quotes")

    def __init__(self) -> None:
        super().__init__()
        self.book = QuoteBook(max_quotes=6, max_per_peer=3)
        self.open: list[QuotedTerms] = []
        """In the order of issue; without those used or pushed out."""
        self.now = 0.0
        self.count = 0

    @rule(seconds=st.sampled_from([0.0, 1.0, 4.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=quotes, peer=PEERS)
    def issue(self, peer: PeerId) -> bytes:
        self.count += 1
        terms = QuotedTerms(
            quote_id=self.count.to_bytes(16, "big"),
            peer_id=peer,
            model_id="m",
            price_micros_per_mtok=1,
            currency="USD",
            max_output_tokens=1,
            context_tokens=1,
            expires_at_s=self.now + 5.0,
        )
        before = [t for t in self.open if t.expires_at_s > self.now]
        self.book.issue(terms, self.now)
        pushed_out = [t for t in before if not self.is_open(t)]
        if (own := [t for t in before if t.peer_id == peer])[2:]:
            assert pushed_out == own[:1]
        elif len(before) == 6:
            # A full book takes the oldest of a peer that holds most; which one of equals is not told.
            held = Counter(t.peer_id for t in before)
            greediest = [name for name, count in held.items() if count == max(held.values())]
            oldest = [next(t for t in before if t.peer_id == name) for name in greediest]
            assert len(pushed_out) == 1
            assert pushed_out[0] in oldest
        else:
            assert not pushed_out
        self.open = [t for t in self.open if t not in pushed_out] + [terms]
        return terms.quote_id

    def is_open(self, terms: QuotedTerms) -> bool:
        try:
            return self.book.look_up(terms.quote_id, terms.peer_id, self.now) == terms
        except JobError:
            return False

    @rule(quote=quotes, peer=PEERS)
    def consume(self, quote: bytes, peer: PeerId) -> None:
        valid = [t for t in self.open if t.quote_id == quote and t.peer_id == peer and t.expires_at_s > self.now]
        if valid:
            assert [self.book.consume(quote, peer, self.now)] == valid
            self.open.remove(valid[0])
            return
        with pytest.raises(JobError) as caught:
            self.book.consume(quote, peer, self.now)
        assert caught.value.reason == "QUOTE_EXPIRED"

    @invariant()
    def bounds_hold(self) -> None:
        assert len(self.book) <= 6
        for name in ("ann", "bob", "eve"):
            assert len(self.book.prices(PeerId(name), "m", self.now)) <= 3


TestAdmission = AdmissionMachine.TestCase
TestQuoteBook = QuoteBookMachine.TestCase
