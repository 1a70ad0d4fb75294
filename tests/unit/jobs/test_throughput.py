"""How fast a model is said to be: by jobs that had the host to themselves and a client that kept up."""

from __future__ import annotations

from contextlib import suppress

from hostmesh.jobs.throughput import LEAST_TOKENS, MAX_JOBS, MAX_RATE, JobPace, Throughput


def ran(throughput: Throughput, tokens_per_s: float, *, tokens: int = 100, waited_s: float = 0.0) -> int | None:
    """Run one job alone; return what is said of the model then."""
    with throughput.time_job("m") as pace:
        pace.piece(5.0, 1)
        pace.waited(waited_s)
        pace.finish(5.0 + tokens / tokens_per_s, 1 + tokens)
    return throughput.of("m")


def test_nothing_is_said_before_a_job_ran() -> None:
    assert Throughput().of("m") is None


def test_the_time_runs_from_the_first_piece_with_tokens_and_not_from_the_start_of_the_prompt() -> None:
    pace = JobPace()
    pace.piece(10.0, 0)
    pace.piece(60.0, 4)
    pace.piece(61.0, 8)
    pace.finish(62.0, 44)
    assert pace.millitokens_per_s == 20_000


def test_what_is_said_is_the_median_and_one_odd_job_moves_nothing() -> None:
    throughput = Throughput()
    for _ in range(3):
        assert ran(throughput, 20) == 20_000
    assert ran(throughput, 5000) == 20_000
    assert ran(throughput, 0.5) == 20_000


def test_less_than_a_tenth_is_no_news_and_a_tenth_is() -> None:
    throughput = Throughput()
    assert ran(throughput, 20) == 20_000
    for _ in range(MAX_JOBS):
        assert ran(throughput, 21) == 20_000
    for _ in range(MAX_JOBS):
        ran(throughput, 22)
    assert throughput.of("m") == 22_000


def test_so_many_jobs_are_remembered() -> None:
    throughput = Throughput()
    for _ in range(10 * MAX_JOBS):
        ran(throughput, 10)
    for _ in range(MAX_JOBS // 2 + 1):
        ran(throughput, 40)
    assert throughput.of("m") == 40_000


def test_jobs_that_ran_together_do_not_count_whichever_began_first() -> None:
    throughput = Throughput()
    with throughput.time_job("m") as first:
        first.piece(0.0, 1)
        with throughput.time_job("other") as second:
            second.piece(0.0, 1)
            second.finish(1.0, 101)
        first.finish(2.0, 101)
    assert (throughput.of("m"), throughput.of("other")) == (None, None)
    assert ran(throughput, 20) == 20_000


def test_a_job_that_failed_does_not_count_and_the_next_one_is_alone() -> None:
    throughput = Throughput()
    with suppress(LookupError), throughput.time_job("m") as pace:
        pace.piece(0.0, 1)
        pace.finish(1.0, 101)
        raise LookupError
    assert throughput.of("m") is None
    assert ran(throughput, 20) == 20_000


def test_a_client_that_reads_slowly_makes_no_host_slow() -> None:
    throughput = Throughput()
    assert ran(throughput, 20, waited_s=0.6) is None
    assert ran(throughput, 20, waited_s=0.4) == 20_000


def test_a_short_answer_and_one_without_an_end_say_nothing() -> None:
    throughput = Throughput()
    assert ran(throughput, 20, tokens=LEAST_TOKENS - 1) is None
    with throughput.time_job("m") as pace:
        pace.piece(0.0, 1)
    with throughput.time_job("m") as pace:
        pace.finish(1.0, 100)
    with throughput.time_job("m") as pace:
        pace.piece(1.0, 1)
        pace.finish(1.0, 100)
    assert throughput.of("m") is None
    assert ran(throughput, 20, tokens=LEAST_TOKENS) == 20_000


def test_what_is_said_fits_into_a_record() -> None:
    assert ran(Throughput(), 1e9) == MAX_RATE
    assert ran(Throughput(), 1e-6) == 1
