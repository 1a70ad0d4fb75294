"""Strict JSON that no text can crash."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.json_text import MAX_DEPTH, parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_what_json_writes_is_read(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False, indent=1)) == value


@given(st.text() | st.text(alphabet='[]{}"\\,:1'))
def test_any_text_parses_as_json_does_or_is_refused(text: str) -> None:
    try:
        value = parse_json(text)
    except ValueError:
        return
    assert value == json.loads(text)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_depth(opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    assert parse_json(opening * (MAX_DEPTH - 1) + "[]" + closing * (MAX_DEPTH - 1)) is not None
    with pytest.raises(ValueError, match="deeper"):
        parse_json(opening * MAX_DEPTH + "[]" + closing * MAX_DEPTH)


def test_brackets_in_texts_do_not_count() -> None:
    text = "[" * 1000 + '"' + "\\"
    assert parse_json(json.dumps([text])) == [text]


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "-Infinity", "", "{", '"'])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_a_raised_recursion_limit_does_not_matter() -> None:
    code = (
        "import sys; sys.setrecursionlimit(1_000_000)\n"
        "from hostmesh.json_text import parse_json\n"
        "try: parse_json('[' * 1_000_000)\n"
        "except ValueError: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "refused\n")


def test_wallets_leave_the_recursion_limit_alone() -> None:
    code = (
        "import sys\n"
        "from hostmesh.identity.accounts import load_account\n"
        "before = sys.getrecursionlimit(); load_account(); print(sys.getrecursionlimit() == before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
