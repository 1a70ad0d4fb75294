"""The entry point of ``hostmesh-host``. Errors, exit codes and signals are those of ``hostmesh``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hostmesh.cli.main import run_app


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``hostmesh-host`` with these arguments (None = the process's) and return its exit code."""
    from hostmesh_host.cli.app import app

    return run_app(app, "hostmesh-host", argv)


if __name__ == "__main__":
    sys.exit(main())
