"""What the plugin writes: as committed, the same every time, well formed, and as typed as its .proto."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.protoc.kit import GOLDEN, POLL, ROOT, TALK, request_of, run_protoc

from hostmesh.protoc.plugin import generate

GENERATED = ("talk/v1/talk_hostmesh.py", "poll/v1/poll_hostmesh.py")
RUFF = Path(sys.executable).with_name("ruff")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that is generated for the golden .proto files."""
    target = tmp_path_factory.mktemp("talk")
    result = run_protoc(GOLDEN, target, TALK, POLL)
    assert result.returncode == 0, result.stderr
    return target


@pytest.mark.parametrize("generated", GENERATED)
def test_four_shapes_and_all_options_are_written_as_committed(talk: Path, generated: str) -> None:
    assert (talk / generated).read_text() == (GOLDEN / generated).read_text()


def test_the_same_request_gives_the_same_bytes_whatever_the_order_of_its_files(tmp_path: Path) -> None:
    request = request_of(tmp_path, {TALK: (GOLDEN / TALK).read_text()})
    first = generate(request).SerializeToString(deterministic=True)
    assert generate(request).SerializeToString(deterministic=True) == first
    files = list(request.proto_file)
    del request.proto_file[:]
    request.proto_file.extend(reversed(files))
    assert generate(request).SerializeToString(deterministic=True) == first


def test_it_is_formatted_and_passes_the_rules_of_this_project(talk: Path) -> None:
    for command in (["check"], ["format", "--check"]):
        result = subprocess.run(
            [RUFF, *command, "--no-cache", "--config", ROOT / "pyproject.toml", *(talk / each for each in GENERATED)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout


RIGHT = """\
from collections.abc import Sequence

from google.protobuf.empty_pb2 import Empty
from hostmesh import RpcClient, CallContext, PeerId, RequestStream, SDK, SendResponse
from poll.v1.poll_hostmesh import PollServiceClient
from poll.v1.poll_pb2 import Result, Vote
from talk.v1.talk_hostmesh import TalkServiceBase, TalkServiceClient
from talk.v1.talk_pb2 import Line, Room, Summary


class Talk(TalkServiceBase):
    async def open_room(self, request: Room, context: CallContext) -> Empty:
        return Empty()

    async def listen(self, request: Room, context: CallContext, send: SendResponse[Line]) -> None:
        await send(Line(text=request.name))

    async def import_(self, requests: RequestStream[Line], context: CallContext) -> Summary:
        return Summary(lines=len([line.text async for line in requests]))

    async def talk(self, requests: RequestStream[Line], context: CallContext, send: SendResponse[Line]) -> None:
        async for line in requests:
            await send(line)

    async def count_the_authors_of_everything_that_was_ever_said(
        self, request: Line.Author, context: CallContext
    ) -> Summary:
        return Summary()


def serve(sdk: SDK) -> None:
    sdk.serve(Talk())


async def call(rpc: RpcClient, peer_id: PeerId) -> Sequence[str]:
    client = TalkServiceClient(rpc, peer_id)
    opened: Empty = await client.open_room(Room(name="tea"), timeout_s=5)
    texts: list[str] = []
    async with client.listen(Room(name="tea"), timeout_s=None) as lines:
        async for line in lines:
            texts.append(line.text)
    async with client.import_(timeout_s=5) as importing:
        await importing.send(Line())
        summary: Summary = await importing.finish()
    async with client.talk(timeout_s=5) as talking:
        await talking.send(Line())
        await talking.end()
        async for line in talking:
            texts.append(line.text)
    polls = PollServiceClient(rpc, peer_id)
    result: Result = await polls.cast(Vote())
    await polls.cast(Vote(), timeout_s=1, idempotency_key=b"once")
    async with polls.watch(Empty()) as votes, polls.watch(Empty(), timeout_s=None), polls.cast_many():
        texts += [vote.choice async for vote in votes]
    return texts
"""

WRONG = """\
from hostmesh import CallContext, PeerId, RpcClient
from poll.v1.poll_hostmesh import PollServiceClient
from poll.v1.poll_pb2 import Vote
from talk.v1.talk_hostmesh import TalkServiceBase, TalkServiceClient
from talk.v1.talk_pb2 import Line, Room, Summary


class Lazy(TalkServiceBase):
    async def open_room(self, request: Line, context: CallContext) -> Summary:  # E: override
        return Summary()


async def call(rpc: RpcClient, peer_id: PeerId) -> None:
    Lazy()  # E: abstract
    client = TalkServiceClient(rpc, peer_id)
    await client.open_room(Line(), timeout_s=5)  # E: arg-type
    await client.open_room(Room())  # E: call-arg
    async with client.talk(timeout_s=5) as call:
        await call.send(Room())  # E: arg-type
        async for line in call:
            line.texts  # E: attr-defined
    polls = PollServiceClient(rpc, peer_id)
    polls.discuss()  # E: call-arg
    polls.discuss(timeout_s=5, idempotency_key=b"once")  # E: call-arg
    await polls.cast(Vote(), timeout_s=None)  # E: arg-type
"""


@pytest.mark.timeout(300)  # mypy reads all of hostmesh when its cache is cold
def test_mypy_knows_every_shape_and_finds_every_misuse(talk: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    shutil.copytree(talk, tmp_path, dirs_exist_ok=True)
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    # protoc's own stubs are not written for --strict.
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = true\nexplicit_package_bases = true\n[mypy-talk.v1.talk_pb2,poll.v1.poll_pb2]\n"
        "ignore_errors = true\n"
    )
    assert pytestconfig.cache is not None
    command = [sys.executable, "-m", "mypy", "--cache-dir", pytestconfig.cache.mkdir("protoc-mypy")]
    result = subprocess.run(
        [*command, "--no-error-summary", *GENERATED, "right.py", "wrong.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in result.stdout.splitlines() if ": error: " in line]
    expected = [
        (f"wrong.py:{number}", line.rpartition("# E: ")[2])
        for number, line in enumerate(WRONG.splitlines(), 1)
        if "# E: " in line
    ]
    found = {(line.split(": error: ")[0], line.rpartition("[")[2].rstrip("]")) for line in errors}
    assert found == set(expected), result.stdout + result.stderr
