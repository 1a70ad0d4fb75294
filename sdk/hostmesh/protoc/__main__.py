"""``python -m hostmesh.protoc``: the plugin, where its command is not on the path."""

from __future__ import annotations

from hostmesh.protoc.main import main

raise SystemExit(main())
