"""The kit's public names."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hostmesh.testing


def test_every_public_name_is_there() -> None:
    for name in hostmesh.testing.__all__:
        assert getattr(hostmesh.testing, name) is not None
    assert set(hostmesh.testing.__all__) == set(hostmesh.testing._HOMES)
    with pytest.raises(AttributeError, match="Nothing"):
        _ = hostmesh.testing.Nothing


def test_importing_the_kit_or_hostmesh_loads_nothing_of_it() -> None:
    code = "import hostmesh.testing, sys; print([m for m in sys.modules if 'hostmesh.testing.' in m or m == 'trio'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
