"""Runs one target under atheris until its time is up or it finds something. Started by ``python -m tests.fuzz``."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris
from tests.fuzz.target import load


def main() -> None:
    """Run it: ``python -m tests.fuzz.engine TARGET CORPUS FINDINGS SECONDS``."""
    name, corpus, findings, seconds = sys.argv[1:]
    # Imported here, so that atheris can put its counters in.
    with atheris.instrument_imports(include=["hostmesh.wire", "hostmesh.rpc", "hostmesh.net"]):
        target = load(name)
    for number, seed in enumerate(target.seeds()):
        Path(corpus, f"seed-{number:04}").write_bytes(seed)
    atheris.Setup(
        [
            name,
            corpus,
            f"-max_total_time={seconds}",
            f"-max_len={target.max_bytes}",
            f"-artifact_prefix={findings}/",
            "-timeout=20",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
            "-verbosity=0",
        ],
        target.run,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
