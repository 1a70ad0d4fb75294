"""eth_account, imported when it is first needed: it costs most of a second of CPU, and one side effect."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eth_account import Account


def load_account() -> type[Account]:
    """Return ``eth_account.Account``, with the recursion limit as it was.

    Its dependency py_ecc raises the limit of the whole process to 100,000; deep input to any recursive C parser then
    ends the process where it would have raised RecursionError.
    """
    limit = sys.getrecursionlimit()
    try:
        from eth_account import Account
    finally:
        sys.setrecursionlimit(limit)
    return Account
