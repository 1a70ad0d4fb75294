"""What the check says of versions and limits of calls, held against ids on the wire and a server's own counting."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from hypothesis import given
from hypothesis import strategies as st
from tests.support.proto_changes import MESSAGES, limited, spoken, timed
from tests.support.proto_text import files_of

from hostmesh.errors import SchemaError
from hostmesh.rpc.limits import CallLimits, LimitTable, RpcLimits, ServiceCalls
from hostmesh.schema.compatibility import compare
from hostmesh.schema.descriptor_set import OPTIONS
from hostmesh.schema.files import load_files
from hostmesh.schema.model import read_schema

ROOT = Path(__file__).resolve().parents[3]
LOST = {"SERVICE_REMOVED", "PROTOCOL_RENAMED", "PROTOCOL_VERSION_CHANGED", "PROTOCOL_VERSION_DROPPED"}


@st.composite
def cuts(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """Services that share out minor versions from 0 to 5: name, highest, lowest."""
    names = draw(st.permutations(["A", "B", "C"]))
    ends = sorted(draw(st.sets(st.integers(0, 6), min_size=2, max_size=4)))
    ranges = [(last - 1, first) for first, last in pairwise(ends)]
    kept = draw(st.lists(st.booleans(), min_size=len(ranges), max_size=len(ranges)).filter(any))
    return [(name, *each) for name, each, is_kept in zip(names, ranges, kept, strict=False) if is_kept]


def set_of(services: list[tuple[str, int, int]]) -> FileDescriptorSet:
    return files_of(
        MESSAGES + "".join(spoken(f"1.{highest}.0", f"1.{lowest}.0", name) for name, highest, lowest in services)
    )


def minors(services: list[tuple[str, int, int]]) -> set[int]:
    return {minor for _, highest, lowest in services for minor in range(lowest, highest + 1)}


@given(cuts(), cuts())
def test_a_set_is_refused_exactly_when_a_version_finds_nobody(
    old: list[tuple[str, int, int]], new: list[tuple[str, int, int]]
) -> None:
    changes = compare(set_of(old), set_of(new))
    assert bool(minors(old) - minors(new)) == bool(LOST & {each.kind for each in changes})
    # The methods are the same throughout, so there is nothing else to refuse.
    assert {each.kind for each in changes if each.is_breaking} <= LOST


@pytest.mark.parametrize(
    ("old", "new", "was", "now"),
    [
        (("1.2.0", "1.0.0"), ("1.3.0", "1.2.0"), "p/1.0.0 to 1.2.0", "without 1.0.0, 1.1.0"),
        (("1.2.0", "1.0.0"), ("1.2.0", ""), "p/1.0.0 to 1.2.0", "without 1.0.0, 1.1.0"),
        (("1.0.0", ""), ("1.2.0", "1.1.0"), "p/1.0.0", "p/1.1.0 to 1.2.0"),
    ],
)
def test_which_versions_are_lost_is_said(old: tuple[str, str], new: tuple[str, str], was: str, now: str) -> None:
    (found,) = compare(files_of(MESSAGES + spoken(*old)), files_of(MESSAGES + spoken(*new)))
    assert (found.was, found.now) == (was, now)


def test_a_limit_says_where_it_is_that_of_servers() -> None:
    found = compare(files_of(limited("")), files_of(limited("option (calls_per_peer) = {calls_per_s: 2.5};")))
    assert {(each.was, each.now) for each in found} == {
        ("calls_per_peer.calls_per_s 50000 (as servers have)", "calls_per_peer.calls_per_s 2.5"),
        ("calls_per_peer.burst 50000 (as servers have)", "calls_per_peer.burst 3"),
    }


def test_a_default_deadline_says_what_it_was() -> None:
    (found,) = compare(files_of(timed("")), files_of(timed("option (default_timeout_ms) = 5;")))
    assert (found.was, found.now) == ("no default_timeout_ms", "default_timeout_ms 5")


# --- what is let pass is admitted ---

STATED = st.builds(
    dict,
    max_concurrent=st.sampled_from([0, 1, 2, 3]),
    calls_per_s=st.sampled_from([0.0, 0.25, 0.5, 2.0]),
    burst=st.sampled_from([0, 1, 2, 3]),
)
STEPS = st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 4.0]), st.booleans()), max_size=40)
"""Seconds that pass, and whether a call comes then or the oldest one ends."""


def stating(limits: dict[str, Any]) -> FileDescriptorSet:
    text = ", ".join(f"{name}: {value}" for name, value in limits.items())
    return files_of(limited(f"option (calls_per_peer) = {{{text}}};"))


def admits(files: FileDescriptorSet) -> tuple[LimitTable, ServiceCalls]:
    """Return the table of a server, from the limits that the set was read with."""
    service = read_schema(files).services["t.S"]
    table = LimitTable(RpcLimits(per_peer=service.calls_per_peer, per_service=service.calls_of_all))
    return table, table.service("t.S")


@given(STATED, STATED, STEPS)
def test_what_old_servers_admit_new_ones_do_unless_it_is_refused(
    old: dict[str, Any], new: dict[str, Any], steps: list[tuple[float, bool]]
) -> None:
    if any(each.is_breaking for each in compare(stating(old), stating(new))):
        return
    tables = admits(stating(old)), admits(stating(new))
    now, running = 0.0, 0
    for passed, is_call in steps:
        now += passed
        if is_call:
            if tables[0][0].admit("peer", tables[0][1], now) is None:
                assert tables[1][0].admit("peer", tables[1][1], now) is None
                running += 1
        elif running:
            running -= 1
            for table, service in tables:
                table.release("peer", service)


def test_limits_that_are_not_stated_are_read_as_those_of_a_server() -> None:
    service = read_schema(files_of(limited("option (calls_of_all) = {burst: 9};"))).services["t.S"]
    server = RpcLimits()
    assert service.calls_per_peer == server.per_peer
    assert service.calls_of_all == CallLimits(max_concurrent=4096, calls_per_s=100_000.0, burst=9)


# --- sets of which no service can be made ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MESSAGES + spoken("1.0.0", "1.1.0"), r"t\.S: a range goes up from min_version to version"),
        (MESSAGES + spoken("latest", "1.1.0"), r"t\.S: the versions of a range are as 1\.2\.0"),
        (limited("option (calls_per_peer) = {calls_per_s: -1};"), r"t\.S: calls_per_s of -1 is no rate"),
        (limited("option (calls_of_all) = {calls_per_s: nan};"), r"t\.S: calls_per_s of nan is no rate"),
    ],
)
def test_a_service_that_nobody_could_serve_makes_no_set(text: str, message: str) -> None:
    with pytest.raises(SchemaError, match=message) as refused:
        compare(files_of(limited("")), files_of(text))
    assert "protoc-gen-hostmesh" in refused.value.remedy


# --- hostmesh's options themselves ---


def options_of(files: FileDescriptorSet) -> FileDescriptorSet:
    """Return the options as a file like any other, so that they are compared."""
    (found,) = (each for each in files.file if each.name == OPTIONS)
    file = FileDescriptorProto.FromString(found.SerializeToString())
    file.name = "o.proto"
    return FileDescriptorSet(file=[file])


def test_the_options_of_released_sets_keep_their_numbers() -> None:
    """No check of an application's finds it: its old sets would be read with other options than they were made with."""
    now = options_of(load_files(ROOT / "protos"))
    released = sorted((ROOT / "protos" / "released").glob("*.binpb"))
    assert released
    for path in released:
        assert compare(options_of(load_files(path)), now) == []
    moved = FileDescriptorSet.FromString(now.SerializeToString())
    moved.file[0].extension[0].number += 5000
    assert [each.kind for each in compare(now, moved)] == ["FIELD_RENUMBERED"]


def test_hostmesh_s_options_are_no_part_of_what_is_compared() -> None:
    with_options, without = files_of("message M {}"), files_of('syntax = "proto3"; package t; message M {}')
    assert "hostmesh.v1.CallLimits" in read_schema(with_options).messages
    assert compare(with_options, without) == []
    assert compare(without, with_options) == []
