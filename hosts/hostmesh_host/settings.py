"""What a host's operator decides: argument over environment over stored offer over ``host.toml`` over default.

What every node has (addresses, key, network, place) is in :class:`hostmesh.Settings`. Here is the rest: engines,
prices, capacity. Each setting has the environment name ``HOSTMESH_HOST_<NAME>``. Unknown names are refused, with the
closest known one in the error.

The stored offer is what ``hostmesh-host register`` and ``update`` said last; see :mod:`hostmesh_host.offer`.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hostmesh.errors import ConfigError

PREFIX = "HOSTMESH_HOST_"
CONFIG_VARIABLE = PREFIX + "CONFIG"
FILE_NAME = "host.toml"
MAX_ITEMS = 64
EMBEDDED = {"smollm2": "smollm2-135m-instruct", "minilm": "all-minilm-l6-v2"}
"""The embedded engines, and the one model that each has."""
MAX_UINT64 = 2**64 - 1
_PATHS = ("engine_key_file", "allow_list")
_VERIFIER = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """How a host serves.

    Raises:
        ConfigError: a value out of its range; ``name`` names the setting.
    """

    engines: tuple[str, ...] = ("smollm2",)
    """``smollm2``, ``minilm`` or the URL of an engine; at most one URL."""
    models: Mapping[str, int | None] = field(default_factory=dict)
    """Models offered, each with its price or None for ``price``. Empty: all of the embedded engines."""
    price: int | None = None
    """Micro-units per million tokens, for models without a price of their own; 0 is free, None is no price."""
    currency: str = "USD"
    embeddings: tuple[str, ...] = ()
    """Models of the engine at the URL that make vectors, where it does not say so."""
    context_tokens: int | None = None
    """Of the models at the URL, where the engine does not say."""
    engine_key_file: Path | None = None
    """Holds the key of the engine at the URL."""
    allow_remote_engine: bool = False
    """Let the engine be on another machine: prompts leave this one."""
    threads: int | None = None
    """Of each embedded engine; None = all cores but one."""
    capabilities: tuple[str, ...] = ()
    max_concurrent_jobs: int | None = None
    """Jobs in the engines at once; None = 1 for embedded engines alone, else 4."""
    max_queued_jobs: int = 128
    max_output_tokens: int | None = None
    """Most tokens of one answer; None = the models' limits."""
    drain_timeout_s: int = 30
    """How long jobs that run may go on when the host is told to end."""
    allow_list: Path | None = None
    """Names wallets, one a line, that need no reputation, no deposit and no work. Read again when it changes."""
    only_allowed: bool = False
    """Serve the wallets of ``allow_list`` and nobody else."""
    min_client_reputation: int = 0
    """Of wallets that are not on the list, 0 to 1000; one that this host never saw has 100."""
    deposit_verifier: str | None = None
    """``module:name`` of what makes a :class:`hostmesh.DepositVerifier`; with it, a deposit is demanded."""
    sessions_per_wallet: int = 600
    """New sessions a minute, and at once."""
    sessions_per_peer: int = 600
    sessions_per_network: int = 3000
    """Of a /24 or /48."""
    min_slice_tokens: int | None = None
    """Least that a session's slice is worth, unless its limit is less, in tokens; None = 1,024."""
    max_slice_tokens: int | None = None
    """Most that is done in a session without a countersignature, in tokens; None = 65,536, or the longest context."""
    max_work_bits: int = 18
    """Most work that strangers are asked for under attack; 0 = never any."""

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, _check(item.name, getattr(self, item.name), source="argument"))
        if sum(is_url(engine) for engine in self.engines) > 1:
            raise ConfigError(
                "two engines at URLs",
                name="engines",
                source="argument",
                remedy="run one hostmesh-host for each of them",
            )
        if self.only_allowed and self.allow_list is None:
            raise ConfigError(
                "only_allowed without a list would serve nobody",
                name="only_allowed",
                source="argument",
                remedy="name the file of wallets: allow_list",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedHostSettings:
    """Settings, and who said so."""

    settings: HostSettings
    origins: Mapping[str, str]
    """Per setting: ``argument``, ``environment NAME``, ``stored offer``, the TOML file's path, or ``default``."""

    def said_now(self, name: str) -> bool:
        """Tell whether this start said it: by an argument or the environment."""
        return self.origins[name].startswith(("argument", "environment"))


def load_host_settings(
    overrides: Mapping[str, object],
    *,
    config_dir: Path,
    stored: Mapping[str, object],
    file: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> LoadedHostSettings:
    """Put the settings together.

    Args:
        overrides: settings by name; None counts as not given.
        config_dir: where ``host.toml`` is looked for.
        stored: settings that the stored offer keeps.
        file: read this file, which must exist; None = ``HOSTMESH_HOST_CONFIG``, else ``host.toml`` if there is one.
        env: None = the process's own.

    Raises:
        ConfigError: a name that is not known, or a value that is wrong; ``name`` and ``source`` say which and where.
    """
    env = os.environ if env is None else env
    values: dict[str, object] = {}
    origins = dict.fromkeys(_CHECKS, "default")

    def take(name: str, value: object, source: str) -> None:
        if name not in _CHECKS:
            raise _unknown(name, _CHECKS, source=source)
        values[name], origins[name] = _check(name, value, source=source), source

    for name, value in _from_toml(_find_file(file, env, config_dir)):
        take(name, *value)
    for name, stored_value in stored.items():
        take(name, stored_value, "stored offer")
    known = {PREFIX + name.upper(): name for name in _CHECKS}
    for variable, text in env.items():
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE:
            continue
        if variable not in known:
            raise _unknown(variable, (*known, CONFIG_VARIABLE), source="environment")
        if text:
            take(known[variable], _from_text(known[variable], text), f"environment {variable}")
    for name, given in overrides.items():
        if given is not None:
            take(name, given, "argument")
    # Every value went through its check, which returns what the field's annotation says.
    return LoadedHostSettings(settings=HostSettings(**values), origins=origins)  # type: ignore[arg-type]


def is_url(engine: str) -> bool:
    """Tell whether an engine's name is a URL."""
    return "://" in engine


def parse_model(text: str) -> tuple[str, int | None]:
    """Read ``ID`` or ``ID=PRICE``.

    Raises:
        ConfigError: neither.

    >>> parse_model("llama3.2:1b=150000")
    ('llama3.2:1b', 150000)
    """
    model_id, equals, price = text.rpartition("=")
    if not equals:
        return _model_id(text), None
    try:
        return _model_id(model_id), _integer(0, MAX_UINT64)(int(price))
    except ValueError:
        raise _wrong("models", text, source="argument", wanted="ID=PRICE, the price in whole micro-units") from None


# --- sources ---


def _find_file(given: Path | None, env: Mapping[str, str], config_dir: Path) -> Path | None:
    if given is not None:
        return given
    if named := env.get(CONFIG_VARIABLE):
        return Path(named)
    path = config_dir / FILE_NAME
    return path if path.exists() else None


def _from_toml(path: Path | None) -> Iterable[tuple[str, tuple[object, str]]]:
    if path is None:
        return
    source = str(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}", source=source, remedy="name a file that exists and is readable"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not TOML: {error}", source=source, remedy="see docs/operators.md for an example"
        ) from error
    for name, value in table.items():
        if name in _PATHS and isinstance(value, str):
            yield name, (path.parent / Path(value).expanduser(), source)  # relative to the file that says it
        else:
            yield name, (value, source)


def _from_text(name: str, text: str) -> object:
    """Turn an environment variable's text into what the check expects; what cannot be turned is left to the check."""
    match name:
        case "engines" | "embeddings" | "capabilities" | "models":
            return [part.strip() for part in text.split(",") if part.strip()]
        case "allow_remote_engine" | "only_allowed":
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
                text.lower(), text
            )
        case "currency" | "engine_key_file" | "allow_list" | "deposit_verifier":
            return text
        case _:
            return int(text) if text.isascii() and text.isdecimal() and len(text) < 25 else text


def _unknown(name: str, known: Iterable[str], *, source: str) -> ConfigError:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return ConfigError(
        f"unknown setting {name!r} ({source})",
        name=name,
        source=source,
        remedy=f"did you mean {close[0]}?" if close else "remove it; docs/operators.md lists all settings",
    )


def _wrong(name: str, value: object, *, source: str, wanted: str) -> ConfigError:
    return ConfigError(f"{name} is {value!r} ({source})", name=name, source=source, remedy=f"give {wanted}")


# --- values ---


def _check(name: str, value: object, *, source: str) -> object:
    accept, wanted = _CHECKS[name]
    try:
        return accept(value)
    except ValueError as error:
        raise _wrong(name, value, source=source, wanted=wanted) from error


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or len(value) > MAX_ITEMS:
        raise ValueError
    if not all(isinstance(item, str) and item.strip() and item.isprintable() for item in value):
        raise ValueError
    return tuple(dict.fromkeys(value))


def _engines(value: object) -> tuple[str, ...]:
    names = _names(value)
    if not names or not all(name in EMBEDDED or is_url(name) for name in names):
        raise ValueError
    return names


def _models(value: object) -> Mapping[str, int | None]:
    if isinstance(value, (list, tuple)):
        pairs = [parse_model(item) for item in _names(value)]
    elif isinstance(value, Mapping):
        pairs = [
            (_model_id(name), None if price is None else _integer(0, MAX_UINT64)(price))
            for name, price in value.items()
        ]
    else:
        raise ValueError  # noqa: TRY004 - the one error that _check maps
    if len(pairs) > MAX_ITEMS or len({name for name, _ in pairs}) < len(pairs):
        raise ValueError
    return dict(pairs)


def _model_id(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value.encode()) <= 128:
        raise ValueError
    return value


def _integer(least: int, most: int) -> Callable[[object], int]:
    def accept(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError
        return value

    return accept


def _optional(accept: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda value: None if value is None else accept(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError  # noqa: TRY004 - the one error that _check maps
    return value


def _path(value: object) -> Path:
    if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value):
        raise ValueError
    return Path(value).expanduser()


def _verifier(value: object) -> str:
    if not isinstance(value, str) or len(value) > 256 or not _VERIFIER.match(value):
        raise ValueError
    return value


def _currency(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 16 or not value.isascii() or not value.isprintable():
        raise ValueError
    return value


_CHECKS: dict[str, tuple[Callable[[object], object], str]] = {
    "engines": (_engines, "smollm2, minilm or an engine's URL, at least one"),
    "models": (_models, "models with their prices, such as llama3.2:1b=150000, each once"),
    "price": (_optional(_integer(0, MAX_UINT64)), "whole micro-units per million tokens; 0 is free"),
    "currency": (_currency, "a currency of 1 to 16 letters"),
    "embeddings": (_names, "model ids"),
    "context_tokens": (_optional(_integer(1, 2**32 - 1)), "a number of tokens"),
    "engine_key_file": (_optional(_path), "a file's path"),
    "allow_remote_engine": (_flag, "true or false"),
    "threads": (_optional(_integer(1, 1024)), "a number of threads"),
    "capabilities": (_names, "names"),
    "max_concurrent_jobs": (_optional(_integer(1, 100_000)), "a whole number from 1 to 100000"),
    "max_queued_jobs": (_integer(0, 1_000_000), "a whole number from 0 to 1000000"),
    "max_output_tokens": (_optional(_integer(1, 2**32 - 1)), "a number of tokens"),
    "drain_timeout_s": (_integer(0, 86_400), "seconds, from 0 to 86400"),
    "allow_list": (_optional(_path), "a file's path"),
    "only_allowed": (_flag, "true or false"),
    "min_client_reputation": (_integer(0, 1000), "a whole number from 0 to 1000"),
    "deposit_verifier": (_optional(_verifier), "module:name"),
    "sessions_per_wallet": (_integer(1, 1_000_000), "sessions a minute, 1 or more"),
    "sessions_per_peer": (_integer(1, 1_000_000), "sessions a minute, 1 or more"),
    "sessions_per_network": (_integer(1, 1_000_000), "sessions a minute, 1 or more"),
    "min_slice_tokens": (_optional(_integer(1, 2**32 - 1)), "a number of tokens"),
    "max_slice_tokens": (_optional(_integer(1, 2**32 - 1)), "a number of tokens"),
    "max_work_bits": (_integer(0, 32), "a whole number from 0 to 32"),
}
