"""The plan: what canaries copy, what they never repeat, and who may see whose words."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.canaries.plan_client import Client

from hostmesh.canaries.canary import HostWords, OpenWords, OptedInPrompt
from hostmesh.canaries.corpus import Corpus
from hostmesh.canaries.plan import (
    MAX_HOSTS,
    MAX_OPTED_IN,
    MAX_SENT,
    MAX_SYSTEM_PROMPTS,
    CanaryPlan,
    job_seed,
    text_digest,
)
from hostmesh.canaries.shipped import shipped_corpus
from hostmesh.canaries.traffic import JobShape, PastJob
from hostmesh.errors import UsageError

SECRET = "The user's own system prompt, SECRET."
shapes = st.builds(
    JobShape,
    length_bytes=st.integers(1, 300),
    max_output_tokens=st.none() | st.sampled_from([16, 256, 512]),
    parameters=st.sampled_from([(), (("temperature", 0.0),), (("temperature", 0.7), ("top_p", 0.9)), (("seed", 5),)]),
)


def busy(jobs: int = 80, *, turns: int = 1, system_prompt: str | None = None, **options: object) -> Client:
    client = Client(**options)
    for _ in range(jobs):
        shape = JobShape(
            length_bytes=client.random.randint(10, 120),
            max_output_tokens=256,
            parameters=(("temperature", client.random.choice([0.0, 0.7])),),
        )
        client.job("host", shape, turns=turns, system_prompt=system_prompt)
    assert len(client.canaries) > 20, "the plan makes canaries at all"
    return client


@settings(max_examples=12)
@given(seed=st.integers(0, 2**32), kinds=st.lists(shapes, min_size=1, max_size=5), hosts=st.integers(1, 3))
def test_a_users_words_reach_no_second_host(seed: int, kinds: list[JobShape], hosts: int) -> None:
    """The property of consent: what is not open goes to the host that had it, and the type says so."""
    client = Client(seed=seed)
    names = [f"host{number}" for number in range(hosts)]
    for _ in range(20 * hosts):
        peer_id = client.random.choice(names)
        shape = client.random.choice(kinds)
        turns = client.random.randint(1, 3)
        client.job(peer_id, shape, turns=turns, system_prompt=f"{SECRET} For {peer_id} only.")
    for canary in client.canaries:
        for turn in canary.turns:
            if isinstance(turn.words, HostWords):
                assert turn.words.peer_id == canary.peer_id
                assert canary.peer_id in turn.words.text
            else:
                assert turn.role == "user"
                assert "SECRET" not in turn.words.text
        holds_own = any(isinstance(turn.words, HostWords) for turn in canary.turns)
        for other in {*names, "stranger"} - {canary.peer_id}:
            assert canary.may_go_to(other) is not holds_own
            if holds_own:
                with pytest.raises(UsageError, match="another host's"):
                    canary.messages_for(other)
            else:
                assert "SECRET" not in str(canary.messages_for(other))


def test_system_prompts_do_go_back_to_their_host() -> None:
    """The control of the property above: there are words to be kept from others."""
    client = busy(system_prompt=SECRET)
    assert all(canary.messages_for("host")[0] == ("system", SECRET) for canary in client.canaries)


def test_a_job_whose_system_prompt_is_not_known_is_not_copied() -> None:
    """Copies without one would be the only jobs that have none."""
    client = Client()
    shape = JobShape(length_bytes=40, max_output_tokens=256)
    for number in range(120):
        client.job("host", shape, system_prompt=f"{SECRET} Number {number % (2 * MAX_SYSTEM_PROMPTS)}.")
    assert len(client.canaries) > 20
    assert all(canary.turns[0].role == "system" for canary in client.canaries)


def test_of_an_earlier_run_only_jobs_without_a_system_prompt_are_copied_until_it_is_shown_again() -> None:
    client = Client()
    past = [
        PastJob(
            conversation=b"%d" % place,
            shape=JobShape(length_bytes=40, max_output_tokens=(16, 256)[place % 2]),
            system_prompt=(None, text_digest(SECRET))[place % 2],
            started_s=-2000.0 + 10 * place,
            ended_s=-1995.0 + 10 * place,
        )
        for place in range(100)
    ]
    client.plan.restore("host", past)
    assert client.plan.knows("host")
    assert client.plan.next_due() is None
    for _ in range(20):
        client.job("host", JobShape(length_bytes=40, max_output_tokens=16))
    assert {canary.shape.max_output_tokens for canary in client.canaries} == {16}
    for _ in range(40):
        client.job("host", JobShape(length_bytes=40, max_output_tokens=256), system_prompt=SECRET)
    with_prompt = [canary for canary in client.canaries if canary.shape.max_output_tokens == 256]
    assert with_prompt
    assert all(canary.messages_for("host")[0] == ("system", SECRET) for canary in with_prompt)


def test_for_a_quorum_all_words_are_open() -> None:
    client = busy(turns=3, open_words_only=True)
    assert len(client.canaries) > 10
    for canary in client.canaries:
        assert canary.may_go_to("anybody")
        assert [turn.role for turn in canary.turns] == ["user"]


def test_for_a_quorum_no_job_with_a_system_prompt_is_copied() -> None:
    """Its copy would have none, and be known by that."""
    client = Client(open_words_only=True)
    with_prompt = JobShape(length_bytes=60, max_output_tokens=None)
    without = JobShape(length_bytes=60, max_output_tokens=16)
    for _ in range(60):
        client.job("host", with_prompt, system_prompt=SECRET)
    assert not client.canaries
    for _ in range(60):
        client.job("host", with_prompt, system_prompt=SECRET)
        client.job("host", without)
    assert len(client.canaries) > 10
    assert {canary.shape.max_output_tokens for canary in client.canaries} == {16}


def test_opted_in_prompts_are_open_used_once_and_only_where_their_length_fits() -> None:
    texts = [f"Prompt {number} that the user lets go, {'x' * number}" for number in range(40)]
    client = busy(opted_in=[OptedInPrompt(text=text) for text in texts])
    used = [canary.turns[-1].words.text for canary in client.canaries]
    taken = [text for text in used if text in texts]
    assert taken
    assert len(set(taken)) == len(taken)
    assert all(isinstance(canary.turns[-1].words, OpenWords) for canary in client.canaries)
    lengths = [len(text) for text in texts]
    real = [shape.length_bytes for _, shape in client.real]
    for text in taken:
        assert min(abs(len(text) - length) for length in real) <= 0.3 * len(text)
    assert max(lengths) <= 120


def test_nothing_is_sent_twice_to_whomever_nor_after_a_restart() -> None:
    client = Client()
    shape = JobShape(length_bytes=7, max_output_tokens=None)
    for number in range(110):
        client.job(f"host{number % 2}", shape)
    texts = [canary.turns[0].words.text for canary in client.canaries]
    assert len(texts) > 25
    assert len(set(texts)) == len(texts)
    again = Client(seed=1, sent=client.plan.sent())
    for number in range(110):
        again.job(f"host{number % 2}", shape)
    assert not {canary.turns[0].words.text for canary in again.canaries} & set(texts)
    same = Client(seed=1)
    for number in range(110):
        same.job(f"host{number % 2}", shape)
    assert {canary.turns[0].words.text for canary in same.canaries} & set(texts), "the control: without it, it is"


def test_a_host_gets_lines_that_it_has_not_had_before_its_own() -> None:
    """Of a corpus with few lines: those that another host has had lately come before its own of long ago."""
    lines = tuple(f"{word} {{n}}" for word in ("one", "two", "six", "ten"))
    corpus = Corpus(
        templates=lines,
        readings=("{passage}",),
        follow_ups=("x",),
        passages=("y",),
        closings=("z",),
        slots={"n": tuple(f"{number:03}" for number in range(500))},
    )
    client = Client(seed=2)
    client.plan = CanaryPlan(corpus, rate=1.0)
    shape = JobShape(length_bytes=7, max_output_tokens=None)
    had: dict[str, list[str]] = {"a": [], "b": []}
    for number in range(400):
        for peer_id in had:
            key = number.to_bytes(2, "big")
            client.start(peer_id, key, shape, client.ask(peer_id, key))
            client.end(peer_id, key)
        first = "b" if len(had["b"]) < 2 or len(had["a"]) == 2 else "a"
        due, until_s = client.plan.next_due(), client.now_s + client.random.uniform(3.0, 9.0)  # where no job waits
        if due is not None and due[1] == first and due[0] < until_s:
            canary = client.make()
            assert canary is not None
            client.fail(canary)
            had[first].append(canary.turns[0].words.text.split()[0])
        client.now_s = until_s
        if len(had["b"]) == 4:
            break
    assert set(had["a"]).isdisjoint(had["b"][:2]), "those that nobody had come first"
    assert len(set(had["b"])) == 4, "then those that the other host had, though it had them later"


def test_settings_are_copied_as_often_as_they_occur() -> None:
    client = Client(seed=9)
    rare = JobShape(length_bytes=30, max_output_tokens=64, parameters=(("temperature", 1.0), ("stop", ("END",))))
    usual = JobShape(length_bytes=60, max_output_tokens=512, parameters=(("temperature", 0.0),))
    for _ in range(300):
        client.job("host", rare if client.random.random() < 0.25 else usual)
    counts = Counter(canary.shape.parameters for canary in client.canaries)
    assert set(counts) == {rare.parameters, usual.parameters}
    assert counts[rare.parameters] / len(client.canaries) == pytest.approx(0.25, abs=0.08)
    for canary in client.canaries:
        copied = rare if canary.shape.parameters == rare.parameters else usual
        assert canary.shape.max_output_tokens == copied.max_output_tokens
        assert canary.shape.length_bytes == pytest.approx(copied.length_bytes, rel=0.3)
        assert canary.parameters == {**dict(copied.parameters), "seed": canary.seed}


def test_seeds_are_random_and_a_users_own_is_kept() -> None:
    assert len({canary.seed for canary in busy().canaries}) > 10
    client = Client()
    for _ in range(60):
        client.job("host", JobShape(length_bytes=40, max_output_tokens=8, parameters=(("seed", 42),)))
    assert {canary.seed for canary in client.canaries} == {42}
    assert job_seed(b"a" * 32) != job_seed(b"b" * 32)


def test_conversations_go_on_with_the_hosts_answers() -> None:
    client = busy(turns=3, system_prompt=SECRET)
    turns = Counter(sum(turn.role == "user" for turn in canary.turns) for canary in client.canaries)
    assert set(turns) == {1, 2, 3}
    assert turns[2] == pytest.approx(turns[1], abs=2)
    longest = next(canary for canary in client.canaries if len(canary.turns) == 6)
    assert [turn.role for turn in longest.turns] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert longest.messages_for_reference() == longest.messages_for("host")


def test_the_plan_is_bounded_and_stops_when_it_cannot_remember() -> None:
    client = Client()
    shape = JobShape(length_bytes=20, max_output_tokens=None)
    for number in range(MAX_HOSTS + 50):
        client.job(f"host{number}", shape)
    assert len(client.plan._hosts) == MAX_HOSTS
    full = Client(sent=(number.to_bytes(16, "big") for number in range(MAX_SENT)))
    for _ in range(60):
        full.job("host", shape)
    assert full.canaries == []
    with pytest.raises(UsageError, match="opted-in"):
        CanaryPlan(shipped_corpus(), opted_in=[OptedInPrompt(text="x")] * (MAX_OPTED_IN + 1))
    with pytest.raises(UsageError, match="opted-in"):
        CanaryPlan(shipped_corpus(), opted_in=[OptedInPrompt(text="")])


def test_a_canary_that_is_not_due_is_refused() -> None:
    client = Client()
    assert client.plan.next_due() is None
    with pytest.raises(UsageError, match="no canary is due"):
        client.plan.make("host", now_s=0.0, entropy=bytes(32))


def test_the_same_random_bytes_make_the_same_plan() -> None:
    assert busy(seed=4).canaries == busy(seed=4).canaries != busy(seed=5).canaries
