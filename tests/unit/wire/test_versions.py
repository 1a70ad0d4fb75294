"""The highest version that two sides have in common, and what is said where there is none."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hostmesh.errors import ProtocolNotSupportedError
from hostmesh.wire import versions
from hostmesh.wire.versions import MAX_SHOWN_RANGES, highest_common, refusal, show_versions, split_version

NAME = "/hostmesh/chat"


def ids(*versions: str, name: str = NAME) -> tuple[str, ...]:
    return tuple(f"{name}/{version}" for version in versions)


def span(major: int, lowest: int, highest: int) -> tuple[str, ...]:
    return ids(*(f"{major}.{minor}.0" for minor in range(highest, lowest - 1, -1)))


@st.composite
def spans(draw: st.DrawFn) -> tuple[int, int, int]:
    lowest = draw(st.integers(0, 20))
    return draw(st.integers(0, 2)), lowest, lowest + draw(st.integers(0, 7))


@given(spans(), spans())
def test_two_ranges_have_the_highest_in_common_whoever_chooses(one: tuple[int, int, int], other: tuple[int, int, int]):
    ours, theirs = span(*one), span(*other)
    chosen = highest_common(ours, frozenset(theirs))
    assert chosen == highest_common(theirs, frozenset(ours)), "symmetric"
    # From the numbers, without an id.
    (major, lowest, highest), (their_major, their_lowest, their_highest) = one, other
    top = min(highest, their_highest)
    is_common = major == their_major and top >= max(lowest, their_lowest)
    assert chosen == (f"{NAME}/{major}.{top}.0" if is_common else None)


@given(spans(), st.sets(st.text(max_size=12) | st.builds(lambda n: f"{NAME}/1.{n}.0", st.integers(0, 30)), max_size=40))
def test_every_set_of_a_peer_has_an_outcome(one: tuple[int, int, int], spoken: set[str]):
    ours = span(*one)
    chosen = highest_common(ours, spoken)
    if chosen is None:
        assert spoken.isdisjoint(ours)
    else:
        assert chosen in spoken
        assert spoken.isdisjoint(ours[: ours.index(chosen)]), "nothing that is preferred was passed over"


def test_a_gap_in_what_a_peer_speaks_is_a_gap():
    assert highest_common(span(1, 0, 2), set(ids("1.3.0", "1.0.0"))) == f"{NAME}/1.0.0"
    assert highest_common(span(1, 1, 2), set(ids("1.3.0", "1.0.0"))) is None


@given(st.text(max_size=40))
@example("/a/1.0.0")
@example("/a/01.0.0")
@example("/a/1.0.0\n")
@example("/a/1.0.٣")
@example("/a/1.0.9999999999")
@example("/1.0.0")
def test_only_three_plain_numbers_are_a_version(text: str):
    split = split_version(text)
    if split is not None:
        name, version = split
        assert f"{name}/{'.'.join(map(str, version))}" == text
        assert name
        assert all(0 <= number < 10**9 for number in version)


@pytest.mark.parametrize(
    "text", ["/a/01.0.0", "/a/1.0.0\n", "/a/1.0.٣", "/a/1.0.9999999999", "/1.0.0", "1.0.0", "", "/a/1.0", "/a/1.0.0.0"]
)
def test_what_is_almost_a_version_is_none(text: str):
    assert split_version(text) is None


@pytest.mark.parametrize(
    ("versions", "shown"),
    [
        ([(1, 0, 0)], "1.0.0"),
        ([(1, 1, 0), (1, 0, 0), (1, 1, 0)], "1.0.0 to 1.1.0"),
        ([(1, 0, 0), (1, 3, 0), (1, 4, 0), (2, 5, 0)], "1.0.0, 1.3.0 to 1.4.0, 2.5.0"),
        ([(1, 0, 1), (1, 1, 1)], "1.0.1, 1.1.1"),
        ([(1, 2 * minor, 0) for minor in range(9)], "1.0.0, 1.2.0, 1.4.0, 1.6.0 and 5 more"),
    ],
)
def test_versions_are_shown_as_ranges_of_which_there_are_few(versions, shown):
    assert show_versions(versions) == shown


# --- the error ---


@pytest.mark.parametrize(
    ("spoken", "refused", "message", "remedy"),
    [
        (ids("1.0.0", "1.1.0", "1.2.0"), (), "PEER speaks 1.0.0 to 1.2.0", "PEER must be updated"),
        (ids("3.0.0"), (), "PEER speaks 3.0.0", "this node must be updated"),
        (ids("1.9.0", "2.9.0"), (), "PEER speaks 1.9.0, 2.9.0", "this node or PEER must be updated, so that"),
        (("/hostmesh/job/2.0.0", NAME, f"{NAME}/2", f"{NAME}/x/2.0.0"), (), "PEER speaks no version of it", "the peer"),
        ((), ids("2.1.0", "2.0.0"), "PEER speaks none of these and has not told what it speaks", "the peer"),
        (
            ids("2.1.0", "1.0.0"),
            ids("2.1.0"),
            "PEER speaks 1.0.0, and refused 2.1.0, which it had told",
            "PEER must be updated",
        ),
    ],
    ids=["older", "newer", "around", "none", "silent", "liar"],
)
def test_an_error_names_both_ranges_and_who_must_act(spoken, refused, message, remedy):
    error = refusal("PEER", ids("2.1.0", "2.0.0"), set(spoken), set(refused))
    assert type(error) is ProtocolNotSupportedError
    assert error.message == f"{NAME}: this node speaks 2.0.0 to 2.1.0, {message}"
    assert error.remedy.startswith(remedy)
    assert (error.needed, error.offered) == (f"{NAME}/2.1.0", tuple(sorted(spoken)))
    assert not error.may_have_executed
    assert not error.retry_safe


def test_where_a_version_is_left_in_common_the_call_may_be_made_again():
    error = refusal("PEER", ids("1.1.0", "1.0.0"), {*ids("1.0.0", "1.1.0")}, {*ids("1.1.0")})
    assert error.retry_safe
    assert error.message.endswith("PEER speaks 1.0.0, and refused 1.1.0, which it had told")
    assert error.remedy == "make the call again: it takes 1.0.0"


def test_protocols_without_versions_are_named_as_they_are():
    assert refusal("PEER", ["/test/echo/1"], {"/other"}, set()).message == "PEER does not speak /test/echo/1"
    several = refusal("PEER", ["/a/1.0.0", "/b/1.0.0"], set(), set())
    assert several.message == "PEER does not speak /a/1.0.0 or /b/1.0.0"


@given(st.sets(st.text(max_size=30) | st.from_regex(r"/hostmesh/chat/[0-9]{1,9}\.[0-9]{1,9}\.0"), max_size=256))
def test_whatever_a_peer_told_the_message_is_short_and_of_numbers(spoken: set[str]):
    error = refusal("PEER", ids("2.1.0"), spoken, set())
    assert len(error.message) < 100 + MAX_SHOWN_RANGES * 60
    assert error.message.isascii()
    assert error.message.isprintable()


def test_docstring_examples():
    failed, attempted = doctest.testmod(versions)
    assert attempted >= 4
    assert failed == 0
