"""Ranges of protocol versions: what is in them."""

from __future__ import annotations

import doctest

import pytest

from hostmesh.discovery import protocol_range
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.protocol_range import ProtocolRange
from hostmesh.errors import ConfigError


@pytest.mark.parametrize(
    ("wanted", "served", "expected"),
    [
        ("/h/job/1.1.0", "/h/job/1.1.0", True),
        ("/h/job/1.1.0", "/h/job/1.0.9", False),
        ("/h/job/1.1.0", "/h/job/1.10.0", True),
        ("/h/job/1.1.0", "/h/job/2.0.0", False),
        ("/h/job/1.2.0", "/h/job/1.3.0", True),
        ("/h/job/1.2.0", "/h/job/2.3.0", False),
        ("/h/job/1.1.0..2.0.0", "/h/job/2.0.0", True),
        ("/h/job/1.1.0..2.0.0", "/h/job/2.0.1", False),
        ("/h/job/1.1.0..2.0.0", "/h/job/1.0.0", False),
        ("/h/job/1.1.0..1.1.0", "/h/job/1.1.0", True),
        ("/h/job/1.1.0", "/h/jobs/1.1.0", False),
        ("/h/job/1.1.0", "/x/h/job/1.1.0", False),
        ("/h/job/1.1.0", "/h/job", False),
        ("/h/job/1.1.0", "/h/job/1.1.0/x", False),
        ("/h/job/1.1.0", "/h/job/1.1.0-beta", False),
        ("/h/job", "/h/job", True),
        ("/h/job", "/h/job/1.1.0", False),
    ],
)
def test_a_version_is_in_the_range_or_not(wanted: str, served: str, expected: bool) -> None:
    assert ProtocolRange.parse(wanted).is_served_by([served]) is expected
    assert ProtocolRange.parse(wanted).is_served_by(["/other", served]) is expected
    assert str(ProtocolRange.parse(wanted)) == wanted


def test_nothing_served_is_in_no_range() -> None:
    assert not ProtocolRange.parse("/h/job").is_served_by([])


@pytest.mark.parametrize("text", ["job/1.0.0", "/h/job/1.2.0..1.1.0", "/h/job/1.2.0..", "/h/job/1..2", "/", "x"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HostCriteria(protocols=[text])
    error = caught.value
    assert error.message == f"not a protocol with a range of versions: {text!r}"
    assert (error.name, error.source) == ("protocols", "argument")
    assert error.remedy == "/name/1.1.0 (or later, same major version), /name/1.0.0..1.4.0, or an id without a version"


def test_the_examples_hold() -> None:
    assert doctest.testmod(protocol_range).failed == 0
