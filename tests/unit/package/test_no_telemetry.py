"""Nothing that hostmesh brings along reports home: the one library that could be told by what it writes."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path


def test_onnxruntime_keeps_no_device_id_and_has_no_client(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    subprocess.run(
        [sys.executable, "-c", "import onnxruntime"], env=clean | {"HOME": str(tmp_path)}, check=True, timeout=60
    )
    assert list(tmp_path.iterdir()) == []
    spec = find_spec("onnxruntime")
    assert spec is not None
    assert spec.origin is not None
    libraries = list((Path(spec.origin).parent / "capi").glob("*.so*"))
    assert libraries
    for library in libraries:
        assert b"OneDsTelemetry" not in library.read_bytes()
