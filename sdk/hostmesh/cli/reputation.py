"""``hostmesh reputation show`` and ``list``: what this user's programs know of hosts, offline; ``ask`` is beside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from hostmesh.cli.boundary import print_json
from hostmesh.cli.options import AsJson, Verbose, invocation
from hostmesh.cli.reputation_ask import ask_reputation
from hostmesh.cli.terminal import field

if TYPE_CHECKING:
    from hostmesh.data_files import DataFiles
    from hostmesh.reputation.foreign import ForeignPart
    from hostmesh.reputation.probation import Suspension
    from hostmesh.reputation.reputations import Explanation, Reason
    from hostmesh.reputation.standing import Listing

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show what hosts have earned with you.")

app.command("ask")(ask_reputation)
_UNIT_MICROS = 1_000_000
_COLUMNS = ("HOST", "OPERATOR", "POINTS", "GOOD", "BAD", "STANDING")


@app.command("show")
def show_reputation(
    context: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", help="A peer id, or a multiaddr with /p2p.")],
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Explain a host's reputation: evidence, its decay, others' receipts, why it is paused or blacklisted, until when.

    A peer key under two wallets is two hosts, and each is shown. Asks nobody: a reputation is this user's own.
    """
    from hostmesh.cli.peer import parse_peer
    from hostmesh.reputation.names import NO_OPERATOR, HostName

    peer_id = parse_peer(host).peer_id
    with _files(context, verbose) as (files, now):
        names = files.reputation.names(peer_id) or (HostName(peer_id, NO_OPERATOR),)
        told = [(files.reputation.explain(*name), files.standings.of(peer_id, name.operator).barred) for name in names]
        suspension = files.standings.suspension(peer_id)
        said_of = {peer_id, *(name.operator for name in names)}
        listings = [each for each in files.standings.listings() if each.name in said_of]
    if as_json:
        print_json(
            {
                "peer_id": peer_id,
                "names": [{**each.to_dict(), "barred": barred} for each, barred in told],
                "suspension": None if suspension is None else suspension_object(suspension, now),
                "listings": [listing_object(each) for each in listings],
            }
        )
        return
    for number, (each, barred) in enumerate(told):
        if number:
            print()
        for line in explanation_lines(each, barred=barred, suspension=suspension, now=now):
            print(line)


@app.command("list")
def list_reputations(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Show at most N hosts.")] = 50,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """List the hosts that you have used, the best first, and the blacklist with preferences.

    A peer key under two wallets is two hosts.
    """
    with _files(context, verbose) as (files, _):
        reputations, hosts = files.reputation.snapshot(), files.reputation.hosts()
        by_points = sorted(hosts, key=lambda name: (-reputations.of(*name).points, name))[:limit]
        rows = [(name, reputations.of(*name), files.standings.of(*name).barred) for name in by_points]
        listings = files.standings.listings()
    if as_json:
        print_json(
            {
                "hosts": [{**name._asdict(), **each.to_dict(), "barred": barred} for name, each, barred in rows],
                "known": len(hosts),
                "listings": [listing_object(each) for each in listings],
            }
        )
        return
    cells = [_COLUMNS] + [
        (name.peer_id, name.operator or "-", str(each.points), str(each.good), str(each.bad), field(barred) or "-")
        for name, each, barred in rows
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_COLUMNS))]
    for row in cells:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"{len(rows)} of {len(hosts)} hosts; one that you never used has 100 points")
    for listed in listings:
        print(listing_line(listed))


@contextmanager
def _files(context: typer.Context, verbose: int) -> Iterator[tuple[DataFiles, float]]:
    loaded = invocation(context).load(verbose=verbose)
    from hostmesh.data_files import DataFiles
    from hostmesh.system import System

    system = System()
    with ExitStack() as stores:
        yield DataFiles(loaded, stores, ephemeral_key=True, system=system), system.unix_s()


def explanation_lines(told: Explanation, *, barred: str, suspension: Suspension | None, now: float) -> Iterator[str]:
    """Yield what a person reads of one host. All text of others is escaped.

    Args:
        told: what the reputation is made of.
        barred: why the host is not to be used now; empty = it may be used.
        suspension: of its blacklisting by what it did, if there is one.
        now: unix seconds.
    """
    from hostmesh.reputation.decay import HALF_LIFE_DAYS

    whose = f"of {told.name.operator}" if told.name.operator else "of any wallet that you do not know it by"
    yield f"{told.name.peer_id} {whose}: {told.reputation.points} of 1000 points (a host that you never used has 100)"
    yield f"your own evidence: {told.reputation.n}; its weight, in jobs, halves every {HALF_LIFE_DAYS} days"
    for part in told.parts:
        side = "for" if part.kind.is_good else "against"
        yield f"  {side:<7}  {part.kind.text:<31}  {part.count:>7} x  weight {_jobs(part.weight_micros)}"
    if told.elsewhere.count:
        weight = _jobs(told.elsewhere.weight_micros)
        yield f"  against  {'its key, not under this wallet':<31}  {told.elsewhere.count:>7} x  weight {weight}"
    yield _foreign_line(told.foreign)
    weights = told.reputation.weights
    good, bad = _jobs(weights.good_micros), _jobs(weights.bad_micros)
    yield f"points = 1000 * (1 + {good}) / (10 + {good} + {bad}), rounded down; {told.own_points} without others' word"
    if told.reasons:
        yield "last against it, newest first"
    for reason in told.reasons:
        yield f"  {_reason(reason)}"
    yield f"standing: {field(barred, max_chars=400) or 'may be used'}"
    if suspension is not None:
        yield f"  {_suspension(suspension, now)}"


def listing_line(listed: Listing) -> str:
    """Return one entry of the blacklist, or one preference, as a person reads it."""
    what = "blacklisted" if listed.priority is None else f"preferred ({listed.priority})"
    until = "until it is removed" if listed.until_unix_s is None else f"until {_when(listed.until_unix_s)}"
    return f"{listed.name}  {what} {until}" + (f": {field(listed.reason)}" if listed.reason else "")


def listing_object(listed: Listing) -> dict[str, object]:
    """Return one entry of the blacklist, or one preference, as JSON takes it."""
    return {
        "name": listed.name,
        "priority": listed.priority,
        "reason": listed.reason,
        "since_unix_s": listed.since_unix_s,
        "until_unix_s": listed.until_unix_s,
    }


def suspension_object(suspension: Suspension, now: float) -> dict[str, object]:
    """Return a blacklisting by what the host did as JSON takes it."""
    return {
        "times": suspension.times,
        "reason": suspension.reason,
        "since_unix_s": suspension.since_unix_s,
        "until_unix_s": suspension.until_unix_s,
        "left_s": suspension.left_s(now),
        "passed_trials": suspension.passed,
    }


def _foreign_line(foreign: ForeignPart) -> str:
    told = f"others' receipts: {foreign.reviewers} reviewers, {foreign.good} jobs finished, {foreign.bad} failed"
    if not foreign.cap_micros:
        return f"{told}; none counts beside your own evidence"
    return (
        f"{told}; {foreign.networks} networks trusted; "
        f"for {_jobs(foreign.weights.good_micros)}, against {_jobs(foreign.weights.bad_micros)}, "
        f"together at most {_jobs(foreign.cap_micros)}"
    )


def _reason(reason: Reason) -> str:
    line = f"{_when(reason.at_unix_s)}  {reason.kind.text}, weight {_jobs(reason.weight_micros)}"
    if reason.false_positive_ppm is not None:
        line += f", accuses an honest host in {reason.false_positive_ppm / 10_000:g} %"
    return line + (f": {field(reason.detail)}" if reason.detail else "")


def _suspension(suspension: Suspension, now: float) -> str:
    times = f"{suspension.times}. time in a row"
    from hostmesh.reputation.probation import PROBATION_TRIALS

    if suspension.holds(now):
        return f"blacklisted by what it did, the {times}, until {_when(suspension.until_unix_s)}; then on probation"
    passed = f"{suspension.passed} of {PROBATION_TRIALS} trials went well"
    return f"on probation since {_when(suspension.until_unix_s)}, the {times}: {passed}"


def _jobs(weight_micros: int) -> str:
    return (
        f"{weight_micros / _UNIT_MICROS:.3g}"
        if weight_micros < 1000 * _UNIT_MICROS
        else f"{weight_micros // _UNIT_MICROS}"
    )


def _when(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
