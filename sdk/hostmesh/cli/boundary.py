"""Where an error becomes one line, one exit code and, with ``--json``, one object.

Exit codes (also in ``docs/cli.md``):

====  ===============================================================================================
0     done
1     a fault of hostmesh itself
2     wrong use: an option, a setting, an address
3     a key, wallet or store file cannot be used
4     no host meets the criteria
5     the network or this machine: could not start, dial, stay connected or be in time; a clock that is off
6     a peer broke the protocol
7     refused: a call or a session by a peer, a session by this user's budget
8     a job or an engine failed
9     a check found what it refuses
130   Ctrl-C
141   nobody reads the output any more
143   SIGTERM
====  ===============================================================================================
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path

from hostmesh import errors
from hostmesh.cli.terminal import escape

EXIT_FAULT = 1
EXIT_USAGE = 2
EXIT_NETWORK = 5
EXIT_REFUSED = 7
EXIT_CHECK = 9
EXIT_BROKEN_PIPE = 141

_EXIT_CODES: tuple[tuple[type[errors.HostmeshError], int], ...] = (
    (errors.ConfigError, EXIT_USAGE),
    (errors.UsageError, EXIT_USAGE),
    (errors.KeyFileError, 3),
    (errors.StoreError, 3),
    (errors.NoHostFoundError, 4),
    (errors.TransportError, EXIT_NETWORK),
    (errors.StartFailedError, EXIT_NETWORK),
    (errors.ReadyTimeoutError, EXIT_NETWORK),
    (errors.ClockSkewError, EXIT_NETWORK),
    (errors.RemoteProtocolError, 6),
    (errors.RpcError, EXIT_REFUSED),
    (errors.SessionError, EXIT_REFUSED),
    (errors.BudgetExceededError, EXIT_REFUSED),
    (errors.JobError, 8),
    (errors.EngineError, 8),
)


def exit_code_of(error: errors.HostmeshError) -> int:
    """Return the exit code of an error, by its kind."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), EXIT_FAULT)


def error_line(code: str, message: str, remedy: str = "") -> str:
    """Return the one line that a person sees.

    >>> error_line("KEY_IN_USE", "peer.key is in use", "stop the other process")
    'error[KEY_IN_USE]: peer.key is in use; remedy: stop the other process'
    """
    line = f"error[{code}]: {escape(message)}"
    return f"{line}; remedy: {escape(remedy)}" if remedy else line


def error_object(error: errors.HostmeshError) -> dict[str, object]:
    """Return what ``--json`` prints: the error's code, text and data."""
    data = {
        "code": error.code,
        "message": error.message,
        "remedy": error.remedy,
        "retry_safe": error.retry_safe,
        "may_have_executed": error.may_have_executed,
        "exit_code": exit_code_of(error),
    }
    own = {name: plain(value) for name, value in vars(error).items() if name not in data and not name.startswith("_")}
    return {"error": data | own}


def report(error: errors.HostmeshError, *, as_json: bool) -> int:
    """Print an error and return its exit code."""
    if as_json:
        print_json(error_object(error))
    print(error_line(error.code, error.message, error.remedy), file=sys.stderr)
    return exit_code_of(error)


def report_usage(message: str, *, remedy: str, as_json: bool, exit_code: int = EXIT_USAGE) -> int:
    """Print what is wrong with the command line, and return its exit code."""
    if as_json:
        known = {"retry_safe": False, "may_have_executed": False, "exit_code": exit_code}
        print_json({"error": {"code": errors.UsageError.code, "message": message, "remedy": remedy, **known}})
    print(error_line(errors.UsageError.code, message, remedy), file=sys.stderr)
    return exit_code


def report_fault(error: BaseException, *, as_json: bool) -> int:
    """Print an error that nobody foresaw, and return its exit code."""
    message, remedy = f"{type(error).__name__}: {error}", "run it again with -vv and report what it prints"
    if as_json:
        known = {"retry_safe": False, "may_have_executed": True, "exit_code": EXIT_FAULT}
        print_json({"error": {"code": "INTERNAL", "message": message, "remedy": remedy, **known}})
    print(error_line("INTERNAL", message, remedy), file=sys.stderr)
    return EXIT_FAULT


def first_known(error: BaseException) -> errors.HostmeshError | None:
    """Return the error to report of a group that holds only errors of hostmesh, or None."""
    if isinstance(error, BaseExceptionGroup):
        found = [first_known(member) for member in error.exceptions]
        return None if None in found else found[0]
    return error if isinstance(error, errors.HostmeshError) else None


def print_json(value: object) -> None:
    """Print one line of JSON on standard output: ASCII, so that text from others is raw and yet harmless."""
    print(json.dumps(value), flush=True)


def plain(value: object) -> object:
    """Return a value as JSON has it: mappings, lists, numbers and text."""
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return str(value)
