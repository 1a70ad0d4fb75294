"""A secret that does not show itself: keys, passwords and mnemonics on their way through the program. Pure.

A :class:`Secret` redacts ``repr``, ``str`` and formatting, refuses pickling and prints nothing in a traceback that
shows locals. It does not erase memory: Python cannot promise that.
"""

from __future__ import annotations

import contextlib
import hmac
from typing import NoReturn

from hostmesh.errors import UsageError

REDACTED = "<redacted>"


class Secret:
    """Bytes that only :meth:`reveal` and :meth:`reveal_text` give out.

    Use the result inside one expression and bind it to no name: a name is a local, and locals show in tracebacks.

    >>> Secret("correct horse")
    Secret(<redacted>)
    >>> f"{Secret('correct horse')}"
    'Secret(<redacted>)'
    """

    __slots__ = ("__value",)

    def __init__(self, value: bytes | str) -> None:
        # surrogatepass: an encoding error would carry the value.
        self.__value = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        """Return the secret."""
        return self.__value

    def reveal_text(self) -> str:
        """Return the secret as text.

        Raises:
            UsageError: it is not UTF-8.
        """
        with contextlib.suppress(UnicodeDecodeError):
            return self.__value.decode()
        # Raised out here, with nothing chained: the decoder's error carries the bytes.
        raise UsageError("the secret is not UTF-8 text")

    def __repr__(self) -> str:
        return f"Secret({REDACTED})"

    def __len__(self) -> int:
        return len(self.__value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value, other.__value)

    __hash__ = None  # type: ignore[assignment]

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise UsageError("a secret is not pickled")


def as_secret(value: Secret | bytes | str) -> Secret:
    """Wrap a value that may be wrapped already."""
    return value if isinstance(value, Secret) else Secret(value)
