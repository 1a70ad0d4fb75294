"""The examples in the docstrings of wire/ and rpc/ are true."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from hostmesh.rpc import method
from hostmesh.wire import bounds, framing


@pytest.mark.parametrize("module", [bounds, framing, method], ids=lambda module: module.__name__)
def test_docstring_examples(module: ModuleType) -> None:
    failed, attempted = doctest.testmod(module)
    assert attempted > 0
    assert failed == 0
