"""What is said of a call whose answer cannot be shown: it was made."""

from __future__ import annotations

import io

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.timestamp_pb2 import Timestamp

from hostmesh.cli.call_messages import response_object
from hostmesh.cli.call_shapes import print_failure
from hostmesh.errors import HostmeshError, MalformedMessageError, UsageError


def said(error: HostmeshError) -> str:
    stream = io.StringIO()
    print_failure(error, stream)
    return stream.getvalue()


def test_a_response_without_a_json_form_was_made_by_a_handler() -> None:
    year_40000 = Timestamp(seconds=1_200_000_000_000)
    with pytest.raises(MalformedMessageError, match="the response has no JSON form") as caught:
        response_object(year_40000, descriptor_pool.Default())
    assert caught.value.may_have_executed
    assert said(caught.value) == "may have executed: yes\n"


def test_an_answer_that_is_none_says_so_too() -> None:
    error = MalformedMessageError("no frame")
    error.may_have_executed = True
    assert said(error) == "may have executed: yes\n"


def test_a_request_that_was_not_sent_needs_no_word() -> None:
    assert said(UsageError("the request is no Word")) == ""
