"""What others learn of whoever uses a network of strangers, told to each user once.

The whole of it is in ``docs/threat-model.md``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostmesh.settings import LoadedSettings

NOTE = (
    "note: the host that runs a prompt reads it and its answer, and peers of the DHT learn which model you ask for "
    "(said once)"
)
MARK_NAME = "privacy-note"
"""Of the empty file in the data folder that says that the note was told."""


def tell_once(loaded: LoadedSettings, *, is_quiet: bool = False) -> None:
    """Print the note on standard error, unless a command has before.

    Where the mark cannot be written it is told each time: a read-only folder is no reason to tell nobody.

    Args:
        loaded: whose data folder has the mark.
        is_quiet: print and mark nothing.
    """
    if is_quiet:
        return
    folder = loaded.paths.data_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / MARK_NAME).open("x").close()
    except FileExistsError:
        if (folder / MARK_NAME).exists():
            return
    except OSError:
        pass
    print(NOTE, file=sys.stderr)
