"""Runs a corpus once under coverage.py and prints, as JSON, which branches it reached."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import coverage
from tests.fuzz.target import load


def main() -> None:
    """Run it: ``python -m tests.fuzz.replay TARGET CORPUS``."""
    name, corpus = sys.argv[1:]
    target = load(name)
    inputs = [path.read_bytes() for path in sorted(Path(corpus).iterdir())]
    files = {code: _file(code.partition(":")[0]) for code in target.code}
    measured = coverage.Coverage(branch=True, data_file=None, include=list(files.values()), config_file=False)
    with measured.collect():
        for data in inputs:
            target.run(data)
    branches: dict[str, Any] = {}
    modules: dict[str, Any] = {}
    for code, file in files.items():
        module, _, part = code.partition(":")
        every, reached = _branches(measured, file)
        modules[module] = {"branches": len(every), "reached": sorted(reached)}
        lines = _lines(file, part)
        mine = {arc for arc in every if arc[0] in lines}
        branches[code] = {
            "branches": len(mine),
            "covered": len(mine & reached),
            "missing": [f"{a}->{b}" for a, b in sorted(mine - reached)],
        }
    print(json.dumps({"branches": branches, "modules": modules}))


def _file(module: str) -> str:
    file = importlib.import_module(module).__file__
    assert file is not None
    return file


def _branches(measured: coverage.Coverage, file: str) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Return the branches of functions, and those that were taken. Of an import nothing counts: it ran before."""
    stats = measured.branch_stats(file)
    analysis = measured._analyze(file)
    every = {(line, to) for line, targets in _exits(analysis).items() for to in targets if line in stats}
    inside = set().union(*(_lines(file, name) for name in _functions(file)))
    missing = {(line, to) for line, targets in analysis.missing_branch_arcs().items() for to in targets}
    every = {arc for arc in every if arc[0] in inside}
    return every, every - missing


def _exits(analysis: Any) -> dict[int, list[int]]:
    exits: dict[int, list[int]] = {}
    for line, to in analysis.arc_possibilities:
        exits.setdefault(line, []).append(to)
    return {line: targets for line, targets in exits.items() if len(targets) > 1}


def _functions(file: str) -> list[str]:
    found: list[str] = []
    for node in ast.parse(Path(file).read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.append(node.name)
        elif isinstance(node, ast.ClassDef):
            found += [f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)]
    return found


def _lines(file: str, part: str) -> set[int]:
    """Return the lines of a function or class; of the whole file where none is named."""
    tree: Any = ast.parse(Path(file).read_text())
    for name in part.split(".") if part else ():
        tree = next(node for node in tree.body if getattr(node, "name", None) == name)
    return set(range(getattr(tree, "lineno", 1), getattr(tree, "end_lineno", 10**6) + 1))


if __name__ == "__main__":
    main()
