"""``hostmesh proto``: what can be told of protocols from their .proto files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hostmesh.cli.boundary import EXIT_CHECK, print_json
from hostmesh.cli.options import AsJson, Verbose, invocation
from hostmesh.cli.terminal import escape

if TYPE_CHECKING:
    from hostmesh.schema.change import Change

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Check .proto files.")


@app.callback()
def group() -> None:
    """Check .proto files."""


@app.command()
def check(
    context: typer.Context,
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Released: a descriptor set, a .proto file or a folder.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="What shall take its place, likewise.")],
    strict: Annotated[bool, typer.Option("--strict", help="Refuse too what breaks JSON or code only.")] = False,
    proto_path: Annotated[
        list[Path] | None, typer.Option("--proto-path", metavar="FOLDER", help="Look here for imports too. Repeat.")
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Refuse a change by which old and new peers would not understand each other, and explain it.

    Exit code 9: there is one.
    """
    invocation(context).load(verbose=verbose)
    from hostmesh.schema.compatibility import compare_schemas, refused
    from hostmesh.schema.files import load_files
    from hostmesh.schema.model import read_schema

    before, after = (read_schema(load_files(path, proto_path or ()), source=str(path)) for path in (old, new))
    changes = compare_schemas(before, after)
    refusals = refused(changes, strict=strict)
    if as_json:
        print_json(
            {
                "compatible": not refusals,
                "refused": len(refusals),
                "allowed": len(changes) - len(refusals),
                "changes": [each.to_dict() | {"refused": each in refusals} for each in changes],
            }
        )
    else:
        for each in changes:
            print(_block(each, is_refused=each in refusals))
        print(_summary(len(refusals), len(changes) - len(refusals)))
    if refusals:
        raise typer.Exit(EXIT_CHECK)


def _block(change: Change, *, is_refused: bool) -> str:
    head = "refused" if is_refused else "warning"
    rows = {
        "was": change.was,
        "now": change.now,
        "breaks": ", ".join(layer.value for layer in change.layers),
        "between": ", ".join(pairing.value for pairing in change.pairings),
        "why": change.why,
        "remedy": change.remedy,
    }
    lines = [f"{head} {change.kind}: {escape(change.place)} ({escape(change.file)})"]
    lines += [f"  {name:<8} {escape(text)}" for name, text in rows.items() if text]
    return "\n".join(lines) + "\n"


def _summary(refused: int, allowed: int) -> str:
    """Return the last line.

    >>> _summary(2, 1), _summary(0, 0)
    ('incompatible: 2 changes refused, 1 warning', 'compatible: 0 warnings')
    """
    warnings = f"{allowed} warning{'' if allowed == 1 else 's'}"
    if refused:
        return f"incompatible: {refused} change{'' if refused == 1 else 's'} refused, {warnings}"
    return f"compatible: {warnings}"
