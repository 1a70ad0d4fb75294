"""Runs cases: a server, and a client program that calls it, as processes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

from tests.conformance.compare import differences
from tests.conformance.schema import ROOT

SERVER = (sys.executable, "-m", "tests.conformance.server")
ANSWER_LIMIT_S = 30.0
"""How long a case may take. The slowest takes 6 s by itself."""
EXIT_LIMIT_S = 5.0
_SHOWN_BYTES = 6000
_FOR_THE_RUNNER = ("about", "script", "expect")


class LineProcess:
    """A process that is spoken to in lines of JSON."""

    def __init__(self, command: Sequence[str]) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        self._name = " ".join(command[-3:])

    def say(self, value: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Return the next line.

        Raises:
            AssertionError: there is none in time, or it is no JSON object; says what the process logged.
        """
        assert self._process.stdout is not None
        timer = threading.Timer(ANSWER_LIMIT_S, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
            answer: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise AssertionError(f"{self._name} said {line!r}: {error}\n{self.log()}") from None
        finally:
            timer.cancel()
        return answer

    def ask(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Say a line and return the answer. Raises as :meth:`hear`."""
        try:
            self.say(value)
        except OSError as error:
            raise AssertionError(f"{self._name} has ended: {error}\n{self.log()}") from None
        return self.hear()

    def log(self) -> str:
        """Return the end of what the process logged."""
        self._log.seek(0)
        return self._log.read()[-_SHOWN_BYTES:].decode(errors="replace")

    def leave(self) -> str:
        """End its standard input, upon which it has to go; return what was wrong with its way of going."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with self._log, process.stdout:
            try:
                process.stdin.close()
                status = process.wait(EXIT_LIMIT_S)
            except (OSError, subprocess.TimeoutExpired) as error:
                return f"{self._name} does not go when its standard input ends: {error}\n{self.log()}"
            finally:
                process.kill()
                process.wait()
            return "" if status == 0 else f"{self._name} ended with {status}\n{self.log()}"


@contextmanager
def _running(command: Sequence[str], problems: list[str]) -> Iterator[LineProcess]:
    process = LineProcess(command)
    try:
        yield process
    finally:
        if problem := process.leave():
            problems.append(problem)


def run_cases(client_command: Sequence[str], cases: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Let a client program do cases against a server of its own.

    Returns:
        For each case what differs from the table; and under ``""`` what went wrong with the processes themselves.
    """
    outcomes: dict[str, list[str]] = {"": []}
    with _running(SERVER, outcomes[""]) as server:
        address = server.hear()["address"]
        client: LineProcess | None = None
        try:
            for case in cases:
                if client is None:
                    client = LineProcess([*client_command, address])
                try:
                    outcomes[case["name"]] = _run_case(case, server, client)
                except AssertionError as error:
                    outcomes[case["name"]] = [str(error)]
                    # It is late, or gone: the other cases get another one.
                    client.leave()
                    client = None
        finally:
            if client is not None and (problem := client.leave()):
                outcomes[""].append(problem)
    return outcomes


def _run_case(case: Mapping[str, Any], server: LineProcess, client: LineProcess) -> list[str]:
    server.ask({"begin": case})
    result = client.ask({key: value for key, value in case.items() if key not in _FOR_THE_RUNNER})
    account = server.ask({"end": case})
    if result.get("name") != case["name"]:
        return [f"the result is of {result.get('name')!r}"]
    return differences(case, result, account)


def run_in_parallel(
    client_command: Sequence[str], cases: Sequence[Mapping[str, Any]], count: int
) -> dict[str, list[str]]:
    """As :func:`run_cases`, with so many servers and clients at once: most cases wait, and few compute."""
    outcomes: dict[str, list[str]] = {"": []}

    def work(share: Sequence[Mapping[str, Any]]) -> None:
        try:
            found = run_cases(client_command, share)
        except AssertionError as error:
            found = {"": [str(error)]}
        outcomes[""] += found.pop("")
        outcomes.update(found)

    shares = [share for index in range(count) if (share := cases[index::count])]
    workers = [threading.Thread(target=work, args=(share,)) for share in shares]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return outcomes
