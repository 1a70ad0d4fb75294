"""The file of a host's sessions, which is opened once however often the host serves."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from hostmesh.data_files import DataFiles
from hostmesh.settings import load_settings
from hostmesh.system import System
from hostmesh.testing import make_peer_key


def test_each_host_of_a_folder_has_one_store_of_its_sessions(tmp_path: Path) -> None:
    loaded = load_settings(env={"HOSTMESH_HOME": str(tmp_path)})
    one, other = make_peer_key("one").peer_id, make_peer_key("other").peer_id
    with ExitStack() as stores:
        files = DataFiles(loaded, stores, ephemeral_key=False, system=System())
        first = files.hosted_sessions(one)
        assert files.hosted_sessions(one) is first
        assert files.hosted_sessions(other) is not first
