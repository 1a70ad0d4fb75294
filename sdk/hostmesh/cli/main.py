"""The ``hostmesh`` command: its entry point, and the boundary that turns errors into exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper
from types import TracebackType

import typer
from typer.exceptions import Abort, TyperException

from hostmesh.cli import boundary
from hostmesh.cli.options import Invocation
from hostmesh.cli.signals import Interrupted, Interrupts
from hostmesh.errors import HostmeshError


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``hostmesh`` with these arguments (None = the process's) and return its exit code."""
    from hostmesh.cli.app import app

    return run_app(app, "hostmesh", argv)


def run_app(app: typer.Typer, name: str, argv: Sequence[str] | None = None) -> int:
    """Run a command line under the boundary: one line an error, no traceback, signals as exit codes.

    Args:
        app: the commands; each gets an :class:`~hostmesh.cli.options.Invocation` as its context's object.
        name: the program's name.
        argv: its arguments; None = those of the process, which then ends with this call.

    Returns:
        The exit code; see :mod:`hostmesh.cli.boundary`.
    """
    owns_process = argv is None
    if argv is None:
        argv = sys.argv[1:]
        _report_uncaught()
    as_json = "--json" in argv
    streams = sys.stdout, sys.stderr
    for stream in streams:
        if isinstance(stream, TextIOWrapper):  # a terminal that cannot show a character is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    interrupts = Interrupts()
    try:
        with interrupts.handled():
            code = _invoke(app, name, argv, Invocation(interrupts=interrupts, owns_process=owns_process))
            sys.stdout.flush()
            return code
    except Interrupted as interrupted:
        return interrupted.exit_code
    except SystemExit as exit_:
        if not isinstance(exit_.__context__, BrokenPipeError):  # typer's answer to a broken pipe
            raise
        sys.stdout, sys.stderr = streams
        return _leave_pipe()
    except BrokenPipeError:
        return _leave_pipe()
    except Abort:  # Ctrl-D at a prompt
        return boundary.report_usage("no answer was given", remedy="answer, or give the option", as_json=as_json)
    except TyperException as error:
        return boundary.report_usage(
            error.format_message(), remedy=f"see {name} --help", as_json=as_json, exit_code=error.exit_code
        )
    except (HostmeshError, BaseExceptionGroup) as error:
        if _wants_traceback(argv):
            traceback.print_exc()
        known = boundary.first_known(error)
        return (
            boundary.report_fault(error, as_json=as_json) if known is None else boundary.report(known, as_json=as_json)
        )


def _report_uncaught() -> None:
    """Let an error that nobody foresaw end in one line too.

    It reaches the interpreter's own last hook, so that no code here has to catch every exception.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if _wants_traceback(sys.argv):
            sys.__excepthook__(kind, error, trace)
        boundary.report_fault(error, as_json="--json" in sys.argv)

    sys.excepthook = hook


def _wants_traceback(argv: Sequence[str]) -> bool:
    return any(word.startswith("-vv") for word in argv) or sum(word == "-v" for word in argv) > 1


def _invoke(app: typer.Typer, name: str, argv: Sequence[str], invocation: Invocation) -> int:
    result = typer.main.get_command(app).main(args=list(argv), prog_name=name, standalone_mode=False, obj=invocation)
    return result if isinstance(result, int) else 0


def _leave_pipe() -> int:
    """Nobody reads the output: say nothing more, also not while the interpreter flushes at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    return boundary.EXIT_BROKEN_PIPE


if __name__ == "__main__":
    sys.exit(main())
