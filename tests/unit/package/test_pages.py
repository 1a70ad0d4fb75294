"""The pages point at what exists: links, commands, options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from hostmesh.cli.app import app
from hostmesh_host.cli.app import app as host_app

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = {"hostmesh": typer.main.get_command(app), "hostmesh-host": typer.main.get_command(host_app)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_are_named_exist(page: Path) -> None:
    for named in re.findall(r"`(tests/[^`\s]*)`", page.read_text()):
        assert list(ROOT.glob(named.rstrip("/"))), named


def commands(page: Path) -> Iterator[list[str]]:
    for block in re.findall(r"```(?:console|sh|bash)\n(.*?)```", page.read_text(), flags=re.DOTALL):
        lines = block.replace("\\\n", " ").splitlines()
        # Where commands have a prompt, the other lines are what they print.
        for line in [line for line in lines if line.startswith("$ ")] or lines:
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:1] == ["./run"]:
                words = words[1:]
            if words and words[0] in COMMANDS:
                yield words


def test_commands_on_the_pages_exist_with_their_options() -> None:
    seen = 0
    for page in PAGES:
        for name, *words in commands(page):
            command = COMMANDS[name]
            known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
            for word in words:
                children = getattr(command, "commands", {})
                if word in children:
                    command = children[word]
                    known |= {o for parameter in command.params for o in [*parameter.opts, *parameter.secondary_opts]}
                elif word.startswith("--") and word != "--help":
                    assert word.partition("=")[0] in known, f"{page.name}: {name} {' '.join(words)}"
            seen += 1
    assert seen >= 10
