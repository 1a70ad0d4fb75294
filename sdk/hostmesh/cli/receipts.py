"""``hostmesh receipts``: list what is kept here, share and export it, verify, add up and import files. All offline."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from hostmesh.cli.boundary import EXIT_CHECK, print_json
from hostmesh.cli.groups import grouped
from hostmesh.cli.options import AsJson, Network, Verbose, invocation
from hostmesh.cli.receipts_table import COLUMNS, row_cells, row_object
from hostmesh.cli.terminal import escape
from hostmesh.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from hostmesh.receipts.export import LineFault
    from hostmesh.receipts.paper_store import KeptFilter, PaperStore

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Show, export, verify and add up receipts of jobs, run here or elsewhere.",
)
MAX_LINE_CHARS = 65_537
"""One more than a line may have, so that a longer one is refused as such; it is never read whole."""
MAX_FAULTS = 100
"""Shown one by one; all are counted."""

File = Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines of receipts export; - is standard input.")]


@dataclass(frozen=True, kw_only=True)
class KeptOptions:
    """Which of the receipts that are kept here."""

    side: Annotated[
        str | None, typer.Option("--side", metavar="host|client", help="Issued by a host here, or countersigned here.")
    ] = None
    host: Annotated[str | None, typer.Option("--host", metavar="PEER", help="Of this host: a peer id.")] = None
    session: Annotated[str | None, typer.Option("--session", metavar="HEX", help="Of this session: 32 digits.")] = None
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="With a receipt since: 2026-11-22, or with T08:27 (UTC)."),
    ] = None
    network: Network = None

    def filter(self, *, shared_only: bool = False) -> KeptFilter:
        """Return what the options say.

        Raises:
            ConfigError: one of them cannot be read.
        """
        from hostmesh.cli.peer import parse_peer
        from hostmesh.net.peer_id import peer_id_to_bytes
        from hostmesh.receipts.paper_store import CLIENT, HOST, KeptFilter

        if self.side not in (None, HOST, CLIENT):
            raise _wrong("side", self.side, "host or client")
        return KeptFilter(
            side=self.side,
            network=self.network,
            host_peer_id=None if self.host is None else peer_id_to_bytes(parse_peer(self.host).peer_id),
            session_id=None if self.session is None else _session_id(self.session),
            since_unix_s=None if self.since is None else _unix_s(self.since),
            shared_only=shared_only,
        )


@app.command("list")
@grouped
def list_receipts(context: typer.Context, *, kept: KeptOptions, as_json: AsJson = False, verbose: Verbose = 0) -> None:
    """List the sessions whose receipts are kept here, oldest first, and what they come to."""
    wanted = kept.filter()
    with _papers(context, verbose) as papers:
        rows = [(each, papers.totals(each)) for each in papers.sessions(wanted)]
    if as_json:
        print_json({"sessions": [row_object(*row) for row in rows]})
        return
    cells = [COLUMNS, *(row_cells(*row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(COLUMNS))]
    for row in cells:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command("export")
@grouped
def export_receipts(
    context: typer.Context,
    *,
    kept: KeptOptions,
    shared: Annotated[
        bool, typer.Option("--shared", help="Only sessions whose receipts may be shown to others.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write a new file here. Default: standard output.")
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Write receipts as JSON lines with all that is needed to verify them: who used which host, when, for how much.

    No prompt and no answer is in them. Sessions whose papers are not kept are left out, and counted.
    """
    wanted = kept.filter(shared_only=shared)
    if as_json and out is None:
        raise UsageError("--json needs --out: standard output has the receipts", remedy="give --out FILE, or no --json")
    with _papers(context, verbose) as papers, _output(out) as stream:
        exported, left_out = _write(papers, wanted, stream)
    if as_json:
        print_json({"sessions": exported, "left_out": left_out, "path": str(out)})
    else:
        print(f"{exported} sessions exported, {left_out} without papers left out", file=sys.stderr)


@dataclass(frozen=True, kw_only=True)
class ConsentOptions:
    """Which of the sessions that this user paid for."""

    host: Annotated[str | None, typer.Option("--host", metavar="PEER", help="All with this host: a peer id.")] = None
    everything: Annotated[bool, typer.Option("--all", help="All that are kept here.")] = False
    network: Network = None

    def filter(self, session: str | None) -> KeptFilter:
        """Return the sessions that are meant.

        Raises:
            UsageError: nothing says which, or --all and something else.
        """
        if (session is not None or self.host is not None) == self.everything:
            raise UsageError("say which sessions are meant", remedy="give SESSION, --host PEER or --all")
        return KeptOptions(side="client", host=self.host, session=session, network=self.network).filter()


Session = Annotated[
    str | None, typer.Argument(metavar="[SESSION]", help="32 digits, as receipts list shows them.", show_default=False)
]


@app.command("share")
@grouped
def share_receipts(
    context: typer.Context,
    session: Session = None,
    *,
    consent: ConsentOptions,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Agree that receipts of sessions, which this user paid for, may be shown to others. At first none may.

    They tell who used which host for which model, when and for how much. Sessions to come are not meant. Your nodes
    tell them to peers that ask: one that shares others already at once, else from its next start on; see reputation
    ask.
    """
    _set_shared(context, consent.filter(session), True, as_json=as_json, verbose=verbose)


@app.command("unshare")
@grouped
def unshare_receipts(
    context: typer.Context,
    session: Session = None,
    *,
    consent: ConsentOptions,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Agree no longer that receipts of sessions may be shown to others, at once. What was shown stays shown."""
    _set_shared(context, consent.filter(session), False, as_json=as_json, verbose=verbose)


@app.command("import")
def import_receipts(
    context: typer.Context, file: File = Path("-"), as_json: AsJson = False, verbose: Verbose = 0
) -> None:
    """Take what other clients' receipts tell of hosts into this user's reputations, where it counts for little.

    Each is verified; nothing of a file with a fault is taken in. See reputation show HOST.
    """
    loaded = invocation(context).load(verbose=verbose)
    from contextlib import ExitStack

    from hostmesh.data_files import DataFiles
    from hostmesh.receipt_reviews import import_reviews
    from hostmesh.receipts.export import read_bundles
    from hostmesh.system import System

    with ExitStack() as stores:
        files = DataFiles(loaded, stores, ephemeral_key=True, system=System())
        taken = import_reviews(
            files.reputation,
            read_bundles(_lines(file)),
            network=loaded.settings.network,
            own_wallets=files.receipts.papers.clients(),
        )
    if as_json:
        print_json(asdict(taken))
        return
    print(f"{taken.reviews} reviews of hosts: {taken.good} jobs finished, {taken.bad} failed")
    for count, what in (
        (taken.own, "sessions of your own left out"),
        (taken.other_network, "sessions of another network left out"),
        (taken.left_out, "sessions left out: too many reviewers in one file"),
        (taken.unfinished, "jobs left out: no last receipt of both sides that says how the host did"),
        (taken.of_own_host, "reviews of an operator's own hosts left out"),
        (taken.not_newer, "reviews left out: more was known of the same reviewer"),
    ):
        if count:
            print(f"{count} {what}")


@app.command("verify")
def verify_receipts(
    context: typer.Context, file: File = Path("-"), as_json: AsJson = False, verbose: Verbose = 0
) -> None:
    """Verify a file of receipts: every signature, what was agreed, order, sums; say which line is wrong, and why.

    Exit code 9: one is.
    """
    invocation(context).load(verbose=verbose)
    from hostmesh.receipts.export import LineReader

    reader = LineReader()
    shown: list[LineFault] = []
    wrong = 0
    for line in _lines(file):
        fault = reader.read(line)
        reader.take(is_end=False)
        if fault is not None:
            wrong += 1
            if wrong <= MAX_FAULTS:
                shown.append(fault)
                if not as_json:
                    print(f"line {fault.line}: {fault.reason}: {escape(fault.message)}")
    if as_json:
        print_json(
            {
                "valid": not wrong,
                "sessions": reader.sessions,
                "receipts": reader.receipts,
                "wrong_lines": wrong,
                "faults": [asdict(fault) for fault in shown],
            }
        )
    else:
        print(f"{reader.sessions} sessions and {reader.receipts} receipts verified, {wrong} lines wrong")
    if wrong:
        raise typer.Exit(EXIT_CHECK)


@app.command("statement")
def statement(context: typer.Context, file: File = Path("-"), as_json: AsJson = False, verbose: Verbose = 0) -> None:
    """Add up a file of receipts: who owes which operator how much, as CSV. Nothing of a file with a fault is added."""
    invocation(context).load(verbose=verbose)
    from hostmesh.receipts.export import read_bundles
    from hostmesh.receipts.settlement import Statement, statement_csv

    settled = Statement().settle(read_bundles(_lines(file)))
    if as_json:
        print_json({"statement": [asdict(each) for each in settled]})
    else:
        print(statement_csv(settled), end="")


def _set_shared(context: typer.Context, wanted: KeptFilter, is_shared: bool, *, as_json: bool, verbose: int) -> None:
    with _papers(context, verbose) as papers:
        meant = list(papers.sessions(wanted))
        if is_shared and wanted.session_id is not None and len(meant) > 1:
            # Hosts choose the ids: consent to one session is none to another.
            raise UsageError(
                "sessions of several networks or hosts have this id", remedy="give --network NAME or --host PEER, too"
            )
        changed = sorted(
            each.session_id.hex()
            for each in meant
            if papers.set_shared(each.host_peer_id, each.session_id, is_shared, network=each.network)
        )
    if not changed:
        raise UsageError("no client here paid for such a session", remedy="see receipts list --side client")
    if as_json:
        print_json({"session_ids": changed, "is_shared": is_shared})
    else:
        print(f"receipts of {len(changed)} sessions may {'' if is_shared else 'not '}be shown to others")


def _write(papers: PaperStore, wanted: KeptFilter, stream: TextIO) -> tuple[int, int]:
    from hostmesh.receipts.export import bundle_lines

    exported = left_out = 0
    for each in papers.sessions(wanted):
        if each.bundle is None:
            left_out += 1
            continue
        exported += 1
        for line in bundle_lines(each.bundle):
            print(line, file=stream)
    return exported, left_out


@contextmanager
def _papers(context: typer.Context, verbose: int) -> Iterator[PaperStore]:
    loaded = invocation(context).load(verbose=verbose)
    from hostmesh.receipts.store import FILE_NAME, ReceiptStore

    with closing(ReceiptStore(loaded.paths.data_dir / FILE_NAME)) as store:
        yield store.papers


@contextmanager
def _output(out: Path | None) -> Iterator[TextIO]:
    """Yield standard output, or a new file that only its owner reads."""
    if out is None:
        yield sys.stdout
        return
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as stream:  # noqa: PTH123 - a descriptor
            yield stream
    except OSError as error:
        raise UsageError(
            f"cannot write {out}: {error.strerror}", remedy="name a new file in a folder of yours"
        ) from error


def _lines(file: Path) -> Iterator[str]:
    """Yield lines, each cut where no line of receipts is as long."""
    try:
        if str(file) == "-":
            yield from _cut(sys.stdin)
            return
        with file.open(encoding="utf-8", errors="replace") as stream:
            yield from _cut(stream)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}", remedy="name a file that can be read") from error


def _cut(stream: TextIO) -> Iterator[str]:
    while line := stream.readline(MAX_LINE_CHARS):
        yield line
        while len(line) == MAX_LINE_CHARS and not line.endswith("\n"):
            line = stream.readline(MAX_LINE_CHARS)


def _session_id(text: str) -> bytes:
    try:
        session_id = bytes.fromhex(text)
    except ValueError:
        session_id = b""
    if len(session_id) != 16:
        raise _wrong("session", text, "32 hex digits, as receipts list shows them")
    return session_id


def _unix_s(text: str) -> int:
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise _wrong("since", text, "a date such as 2026-11-22, or 2026-11-22T08:27") from error
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


def _wrong(option: str, given: str | None, remedy: str) -> ConfigError:
    return ConfigError(f"--{option} is {given!r}", name=option, source="argument", remedy=remedy)
