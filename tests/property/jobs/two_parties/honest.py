"""The shipped client in a world of two parties: it is honest, and may leave, be cancelled or be killed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import trio
from tests.property.jobs.two_parties.world import World

from hostmesh.errors import HostmeshError


@dataclass(frozen=True)
class Ask:
    """An honest client runs a job."""

    prompt_words: int
    pieces: tuple[int, ...]
    leave_after: int | None
    """Leaves after so many pieces; None = reads to the end."""
    timeout_s: float | None
    """Its caller is cancelled after so long."""
    delay_s: float
    fail_after: int | None = None


class HonestClient:
    """The shipped client in a world."""

    def __init__(self, world: World, *, has_tokenizer: bool) -> None:
        self._world = world
        self._has_tokenizer = has_tokenizer
        self.ends: list[object] = []
        """Of each job: None, or what was raised."""
        self._process = world.start_client(has_tokenizer=has_tokenizer)

    def restart(self) -> None:
        """Its process is killed, and starts again."""
        self._process.kill()
        self._process = self._world.start_client(has_tokenizer=self._has_tokenizer)

    async def run(self, ask: Ask) -> None:
        """Run one job."""
        facts = self._world.plan(ask.prompt_words, ask.pieces, fail_after=ask.fail_after, delay_s=ask.delay_s)
        process = self._process
        try:
            with trio.move_on_after(math.inf if ask.timeout_s is None else ask.timeout_s) as scope:
                process.scopes.add(scope)
                async with process.jobs.run(process.session, prompt=facts.prompt, max_output_tokens=64) as job:
                    came = 0
                    async for _ in job:
                        came += 1
                        if came == ask.leave_after:
                            break
        except HostmeshError as error:
            self.ends.append(error)
        else:
            self.ends.append(None)
