"""What always holds in a :class:`MeshWorld`, whatever happens: functions of its account, in a table.

Each returns what breaks it, a line each. To check more, add to a copy of the table::

    explore(MeshWorld(), range(100), invariants={**MESH_INVARIANTS, "my own": check})
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from hostmesh.discovery.record import GRACE_S, MAX_LIFE_S
from hostmesh.errors import HostmeshError, NoHostFoundError
from hostmesh.testing.engine_account import JobEnding
from hostmesh.testing.exploration import Invariant
from hostmesh.testing.mesh_account import Call, Ending, Listing, MeshAccount, answer_to, number_of

STOP_S = 120.0
"""So long an engine may go on for a client that has left: a minute without a way, and the silence that ends a
connection."""


def calls_end_in_time(account: MeshAccount) -> Iterator[str]:
    """Every call ends by its time limit and a grace, and those without one by the end."""
    for call in account.calls:
        if call.is_overdue:
            yield f"{call} had not ended when all was over"
        elif call.due_s is not None and call.ended_s is not None and call.ended_s > call.due_s:
            yield f"{call} ended {call.ended_s - call.due_s:.3f} s late"


def errors_are_typed(account: MeshAccount) -> Iterator[str]:
    """What ends in an error ends in one of hostmesh, with a code."""
    for call in account.calls:
        if call.ending is Ending.CRASHED:
            yield f"{call} raised {type(call.error).__name__}: {call.error}"
        elif isinstance(call.error, HostmeshError) and not call.error.code:
            yield f"{call} raised {type(call.error).__name__} without a code"


def texts_are_what_engines_said(account: MeshAccount) -> Iterator[str]:
    """What a client got is the start of the engine's answer; all of it, and its tokens counted, if the job is done."""
    prompts = {submission.number: submission.prompt for submission in account.submissions}
    finished = Counter(
        number_of(job.work)
        for engine in account.engines.values()
        for job in engine.jobs
        if job.ending is JobEnding.FINISHED
    )
    for call in account.calls:
        if call.number is None:
            continue
        said = answer_to(prompts[call.number])
        if not said.startswith(call.text):
            yield f"{call} got what the engine never said: ...{call.text[-40:]!r}"
        elif call.usage is not None and call.text != said:
            yield f"{call} is done with {len(call.text)} of {len(said)} characters"
        elif call.usage is not None and not finished[call.number]:
            yield f"{call} is done, and no engine finished it"


def submissions_run_once(account: MeshAccount) -> Iterator[str]:
    """An engine does what a client asked for under one quote at most once."""
    runs = Counter(number_of(job.work) for engine in account.engines.values() for job in engine.jobs)
    for submission in account.submissions:
        if runs[submission.number] > 1:
            yield f"job {submission.number} of {submission.machine} ran {runs[submission.number]} times"


def engines_stop_with_their_clients(account: MeshAccount) -> Iterator[str]:
    """No engine begins or goes on long after the client has done with the job."""
    ended = {submission.number: submission.ended_s for submission in account.submissions}
    for name, engine in account.engines.items():
        for job in engine.jobs:
            client_ended_s = ended.get(number_of(job.work))
            if job.ended_at_s is None:
                yield f"job {number_of(job.work)} runs on {name} for ever"
            elif client_ended_s is not None and job.ended_at_s - client_ended_s > STOP_S:
                yield f"job {number_of(job.work)} ran {job.ended_at_s - client_ended_s:.1f} s too long on {name}"


def counts_add_up(account: MeshAccount) -> Iterator[str]:
    """A search accounts for every host that it saw, and a host for every job that it accepted."""
    for call in account.calls:
        if isinstance(call.error, NoHostFoundError) and sum(call.error.rejected.values()) != call.error.seen:
            yield f"{call} saw {call.error.seen} hosts and turned {sum(call.error.rejected.values())} away"
    for what, count, total in account.sums:
        if count != total:
            yield f"{what}: {count}, and {total} by what became of them"


def finds_are_not_stale(account: MeshAccount) -> Iterator[str]:
    """No search returns what a host took back: at once where the client was told, else once the record has expired."""
    listings = {listing.price: listing for listing in account.listings}
    for call in account.calls:
        if call.choice is None:
            continue
        price = call.choice.price
        listing = None if price is None else listings.get(price.micros_per_mtok)
        if listing is None:
            yield f"{call} found a price that no host ever had: {price}"
        elif (why := _staleness(call, listing, account.max_skew_s)) is not None:
            yield f"{call} found {listing.host} at {listing.price}, {why}"


def _staleness(call: Call, listing: Listing, max_skew_s: float) -> str | None:
    if listing.until_s is None:
        return None
    age_s = call.began_s - listing.until_s
    if age_s > 0 and call.machine in listing.heard_by:
        return f"and was told {age_s:.3f} s before that this is over"
    if age_s > MAX_LIFE_S + GRACE_S + 2 * max_skew_s:
        return f"which is over for {age_s:.1f} s"
    return None


def watches_show_what_is(account: MeshAccount) -> Iterator[str]:
    """Who watches a host over a way that is up sees how it is, once it has been so for a few seconds."""
    for call in account.calls:
        if call.lag is not None:
            yield f"{call} {call.lag}"


def nothing_is_left(account: MeshAccount) -> Iterator[str]:
    """When all is over, no stream, slot, byte or task is in use on any side."""
    yield from account.left_over


def a_healed_network_works(account: MeshAccount) -> Iterator[str]:
    """When everything is healed, every client finds a host and runs a job there."""
    for call in account.calls:
        if call.is_final and call.ending is not Ending.DONE:
            error = call.error
            yield f"{call} failed: {type(error).__name__}: {error}"


MESH_INVARIANTS: Mapping[str, Invariant[MeshAccount]] = {
    "every call ends in time": calls_end_in_time,
    "errors are typed": errors_are_typed,
    "a job's text is what the engine said": texts_are_what_engines_said,
    "a submission runs once": submissions_run_once,
    "engines stop with their clients": engines_stop_with_their_clients,
    "counts add up": counts_add_up,
    "finds are not stale": finds_are_not_stale,
    "watches show what is": watches_show_what_is,
    "nothing is left": nothing_is_left,
    "a healed network works": a_healed_network_works,
}
"""By the name under which a breach is reported."""
