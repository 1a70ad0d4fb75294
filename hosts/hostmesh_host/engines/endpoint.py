"""Where an engine listens, and which places are allowed. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from hostmesh.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An engine's HTTP root and its key."""

    base_url: str
    """Scheme, host and port, and a path prefix if any; no slash at the end, no ``/v1``."""
    api_key: str | None = field(default=None, repr=False)


def check_engine_url(url: str, *, allow_remote: bool = False) -> str:
    """Return the engine's root in its one normal form.

    The prompt of every job travels to this address, and so does the key; without ``allow_remote`` it therefore stays on
    this machine, whatever a name server says: ``localhost`` becomes 127.0.0.1, and no other name is let through.

    Args:
        url: ``http://127.0.0.1:11434``, with or without ``/v1`` at the end.
        allow_remote: also take https, other addresses and names.

    Raises:
        ConfigError: no HTTP URL, one that carries a secret, or one that leads off this machine. Nothing was sent.

    >>> check_engine_url("http://localhost:11434/v1/")
    'http://127.0.0.1:11434'
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # Its text repeats parts of the address, which may hold a password.
        raise _invalid("the engine's address is no URL") from None
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise _invalid("the engine's address is no http:// URL")
    if parts.username is not None or parts.password is not None:
        raise _invalid(
            "the engine's address carries a password", remedy="put the key in a file: --engine-key-file FILE"
        )
    if parts.query or parts.fragment:
        raise _invalid("the engine's address has a query or a fragment")
    if any(not 33 <= ord(character) < 127 for character in url):
        raise _invalid("the engine's address holds a space or an unprintable character")
    if host == "localhost":
        host = "127.0.0.1"
    if not allow_remote and not _is_loopback(host):
        raise ConfigError(
            f"the engine at {host} is not on this machine",
            name="engine",
            source="argument",
            remedy="give a loopback address, or allow it with --allow-remote-engine: prompts will leave this machine",
        )
    shown = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{parts.scheme}://{shown}{'' if port is None else f':{port}'}{path}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _invalid(message: str, *, remedy: str = "give the engine's root, such as http://127.0.0.1:11434") -> ConfigError:
    return ConfigError(message, name="engine", source="argument", remedy=remedy)
