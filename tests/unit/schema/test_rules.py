"""Each rule by a pair of small files (``tests/support/proto_changes.py``), and what is said of a change."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support.proto_changes import CHANGES, ID, SAFE, answer, message, service
from tests.support.proto_text import files_of

from hostmesh.schema.change import RULES, Layer, Severity
from hostmesh.schema.compatibility import compare, refused


@pytest.mark.parametrize("case", CHANGES)
def test_rule(case: str) -> None:
    old, new, expected = CHANGES[case]
    changes = compare(files_of(old), files_of(new))
    # A case that shows one code may show it in several places.
    assert {each.kind for each in changes} == set(expected)
    for kind, (place, pairings) in expected.items():
        found = {each.place: each for each in changes if each.kind == kind}
        assert place in found
        assert found[place].pairings == pairings
    for each in changes:
        assert each.remedy
        assert each.was != each.now
        assert each.file == "t.proto"


def test_every_rule_has_a_case() -> None:
    assert {kind for _, _, expected in CHANGES.values() for kind in expected} == set(RULES)


@pytest.mark.parametrize("case", SAFE)
def test_what_only_adds_is_no_change(case: str) -> None:
    old, new = SAFE[case]
    assert compare(files_of(old), files_of(new)) == []


def test_a_file_that_moves_is_no_change() -> None:
    text = service(f"{ID} rpc Call(Q) returns (R);")
    assert compare(files_of(text, "a.proto"), files_of(text, "b.proto")) == []


def test_the_remedy_of_a_wider_limit_says_who_is_first() -> None:
    for make, who in ((message, "update servers first"), (answer, "update clients first")):
        old, new = (files_of(make(f"bytes a = 1 [(max_bytes) = {size}];")) for size in (9, 99))
        (found,) = compare(old, new)
        assert found.remedy.startswith(who)
        assert not found.is_breaking


def test_a_removed_field_is_told_how_to_be_reserved() -> None:
    (found,) = compare(files_of(message("int32 price = 12;")), files_of(message("")))
    assert found.remedy == 'reserve it: reserved 12; reserved "price";'
    (found,) = compare(files_of(message("int32 price = 12;")), files_of(message("reserved 12;")))
    assert not found.is_breaking
    assert found.remedy == 'reserve the name too: reserved "price";'


def test_what_breaks_comes_first_and_strict_refuses_names_too() -> None:
    old = files_of(message("int32 a = 1; int32 b = 2; repeated int32 c = 3 [(max_items) = 2];"))
    new = files_of(message("int32 z = 1; string b = 2; repeated int32 c = 3 [(max_items) = 3];"))
    changes = compare(old, new)
    assert [each.kind for each in changes] == ["FIELD_TYPE_CHANGED", "FIELD_RENAMED", "LIMIT_WIDENED"]
    assert [each.kind for each in refused(changes)] == ["FIELD_TYPE_CHANGED"]
    assert [each.kind for each in refused(changes, strict=True)] == ["FIELD_TYPE_CHANGED", "FIELD_RENAMED"]


def test_a_swap_of_two_fields_is_two_renumberings() -> None:
    changes = compare(files_of(message("int32 a = 1; int32 b = 2;")), files_of(message("int32 b = 1; int32 a = 2;")))
    assert [(each.kind, each.place) for each in changes] == [
        ("FIELD_RENUMBERED", "t.M.a"),
        ("FIELD_RENUMBERED", "t.M.b"),
    ]


def test_a_long_chain_of_replaced_messages_is_followed_to_its_bound_only() -> None:
    def chain(letter: str, length: int) -> str:
        links = "".join(f"message {letter}{n} {{ {letter}{n + 1} next = 1; }}\n" for n in range(length))
        return links + f"message {letter}{length} {{}}\nmessage M {{ {letter}0 head = 1; }}"

    short = compare(files_of(chain("A", 20)), files_of(chain("B", 20)))
    assert {each.kind for each in short} == {"TYPE_REPLACED"}
    long = compare(files_of(chain("A", 1500)), files_of(chain("B", 1500)))
    assert "FIELD_TYPE_CHANGED" in {each.kind for each in long}


def test_another_message_is_refused_with_what_differs() -> None:
    text = "message A { int32 a = 1; } message B { int32 b = 1; } message M { %s m = 1; }"
    (found,) = compare(files_of(text % "A"), files_of(text % "B"))
    assert (found.was, found.now) == ("t.A", "t.B (FIELD_RENAMED t.A.a: a -> b)")


def test_another_message_with_a_field_of_another_type_is_refused() -> None:
    text = "message A { int32 a = 1; } message B { double a = 1; } message M { %s m = 1; }"
    (found,) = compare(files_of(text % "A"), files_of(text % "B"))
    assert (found.kind, found.now) == ("FIELD_TYPE_CHANGED", "t.B (FIELD_TYPE_CHANGED t.A.a: int32 -> double)")


@pytest.mark.parametrize("number", range(1, 12))
def test_what_is_reserved_is_found_among_many(number: int) -> None:
    reserved = {2, 4, 5, 6, 9, 10}
    (found,) = compare(
        files_of(message(f"int32 a = {number};")), files_of(message('reserved 9 to 10, 2, 4 to 6; reserved "a";'))
    )
    assert found.kind == ("FIELD_REMOVED" if number in reserved else "FIELD_REMOVED_UNRESERVED")


def test_what_a_replaced_message_allows_is_told_too() -> None:
    """A message with a new name is compared as the one whose place it takes."""
    old = "message A { bytes a = 1 [(max_bytes) = 9]; } message M { A m = 1; }"
    new = "message B { bytes a = 1 [(max_bytes) = 99]; } message M { B m = 1; }"
    found = compare(files_of(old), files_of(new))
    assert [(each.kind, each.place) for each in found] == [("LIMIT_WIDENED", "t.A.a"), ("TYPE_REPLACED", "t.M.m")]


def test_a_set_that_no_longer_uses_the_options_lacks_nothing() -> None:
    bare = 'syntax = "proto3"; package t; message M { bytes a = 1; }'
    (found,) = compare(files_of("message M { bytes a = 1 [(max_bytes) = 9]; }"), files_of(bare))
    assert (found.kind, found.now) == ("LIMIT_WIDENED", "no max_bytes")


def test_bounds_of_what_a_field_cannot_have_bind_nobody() -> None:
    bound = message("int32 a = 1 [(max_bytes) = 1, (min_bytes) = 1, (max_items) = 1];")
    assert compare(files_of(message("int32 a = 1;")), files_of(bound)) == []
    assert compare(files_of(message("")), files_of(bound)) == []


def test_a_message_in_a_group_is_another_type() -> None:
    text = 'edition = "2023"; package t; message A {} message M { A a = 1%s; }'
    delimited = " [features.message_encoding = DELIMITED]"
    (found,) = compare(files_of(text % ""), files_of(text % delimited))
    assert found.kind == "FIELD_TYPE_CHANGED"


def test_the_page_lists_every_rule_as_it_is() -> None:
    page = (Path(__file__).parents[3] / "docs" / "protocols" / "compatibility.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\w+) \| ([^|]+) \| ([^|]+) \|$", page, flags=re.MULTILINE)
    told = {code: (word, layers, why) for code, word, layers, why in rows}
    assert told == {
        code: (
            "refused" if rule.severity is Severity.BREAKING else "warning",
            ", ".join(layer.value for layer in rule.layers) or "nothing yet",
            rule.why,
        )
        for code, rule in RULES.items()
    }


def test_a_change_as_json_has_it() -> None:
    (found,) = compare(files_of(message("int32 a = 1;")), files_of(message("int32 a = 2;")))
    assert found.layers == (Layer.WIRE,)
    told = found.to_dict()
    assert (told["kind"], told["severity"], told["place"]) == ("FIELD_RENUMBERED", "breaking", "t.M.a")
    assert (told["was"], told["now"]) == ("number 1", "number 2")
    assert (told["layers"], told["pairings"]) == (["WIRE"], ["OLD_CLIENT_NEW_SERVER", "NEW_CLIENT_OLD_SERVER"])
