"""What a node is told about itself: keyword over environment over TOML over default.

:class:`Settings` is one flat, frozen, checked value. :func:`load_settings` puts it together and keeps, for every value,
where it came from. Unknown names are refused in all three places, with the closest known one in the error.

Every setting has the environment name ``HOSTMESH_<NAME>``; six also have the name that the seed gave them (``P2P_*``).
Where both are set, ``HOSTMESH_*`` wins. An empty variable counts as not set. Other programs may use ``P2P_*`` too, so
unknown names of that family are left alone.

Whether a multiaddr can be used is the node's to say (:mod:`hostmesh.net.address`); here its form is looked at only as
far as telling an address from a slip.

Plain dataclasses and not pydantic-settings: importing that costs 0.33 s of CPU, more than the whole of
``hostmesh --help`` may.

Source: seed 002, "Environment Variables"; XDG Base Directory Specification 0.8.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

from hostmesh.errors import ConfigError
from hostmesh.setting_values import CHECKS

CONFIG_FILE_NAME = "config.toml"

BOOTSTRAP_CONNECTIONS = 10_000
"""``max_connections`` of a bootstrap node that is not told otherwise. Source: architecture, decision 10."""

_NAMED_ELSEWHERE = frozenset({"HOSTMESH_HOME", "HOSTMESH_CONFIG"})
_HOST_DAEMON_PREFIX = "HOSTMESH_HOST_"  # hostmesh-host reads and checks these
_SEED_NAMES = {
    "listen_addresses": "P2P_LISTEN_ADDRESSES",
    "bootstrap_nodes": "P2P_BOOTSTRAP_NODES",
    "enable_dht": "P2P_ENABLE_DHT",
    "enable_mdns": "P2P_ENABLE_MDNS",
    "max_connections": "P2P_MAX_CONNECTIONS",
    "connection_timeout_ms": "P2P_CONNECTION_TIMEOUT",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a node runs.

    Raises:
        ConfigError: a value out of its range; ``name`` names the setting.

    >>> Settings(max_connections=3).listen_addresses
    ('/ip4/127.0.0.1/tcp/0',)
    """

    listen_addresses: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/0",)
    """Multiaddrs to listen on; empty = none."""
    announce_addresses: tuple[str, ...] = ()
    """Multiaddrs that others shall dial, where they differ from those listened on (NAT, DNS)."""
    bootstrap_nodes: tuple[str, ...] = ()
    """Multiaddrs with ``/p2p/<peer id>`` by which the node joins the network. None is shipped."""
    static_hosts: tuple[str, ...] = ()
    """Multiaddrs with ``/p2p/<peer id>`` of hosts that every find asks, whatever else it hears of."""
    enable_dht: bool = True
    """Look for hosts in the DHT."""
    enable_mdns: bool = True
    """Look for hosts on the local network."""
    enable_gossip: bool = False
    """Hear of hosts, and tell of this one, in the network's gossip. Needs the extra ``hostmesh[libp2p]``."""
    max_connections: int = 100
    """Connections kept, 1 to 100,000."""
    max_streams: int = 256
    """Streams, and so calls, that each side may have open on one connection, 1 to 100,000."""
    connection_timeout_ms: int = 30_000
    """Most time to reach one address of a peer, 1 to 3,600,000."""
    key_file: Path | None = None
    """The node's Ed25519 key; None = ``peer.key`` in the data folder. In a TOML file relative to that file."""
    wallet_file: Path | None = None
    """The wallet that signs; None = the default place."""
    protocol_prefix: str = "/hostmesh"
    """Start of every protocol id. ``/fabstir-llm`` gives the ids of the seed."""
    network: str = "hostmesh"
    """Name of the network. It is inside every signature, so that none counts in another network."""
    mdns_interfaces: tuple[str, ...] = ()
    """Interfaces, by name or address, for mDNS; empty = all."""
    location: str | None = None
    """Where this node stands, ``US`` or ``US/california``. A host publishes it; a client tells nobody, and refutes with
    it places that are too far away for the measured round trip."""
    log: str = "warning"
    """Log filter: a level, or ``area=level`` pairs: ``net=debug,discovery=info``."""
    log_json: bool = False
    """Log one JSON object a line."""

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _check(field.name, getattr(self, field.name), source="argument"))

    @property
    def connection_timeout_s(self) -> float:
        """``connection_timeout_ms`` in seconds."""
        return self.connection_timeout_ms / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where files live. Nothing is created here; who writes makes its folder with mode 0700."""

    config_dir: Path
    data_dir: Path

    @classmethod
    def from_environment(cls, env: Mapping[str, str] | None = None) -> Paths:
        """Return the folders by ``HOSTMESH_HOME``, which holds everything, or else by the XDG variables.

        Raises:
            ConfigError: none of them is set and the user has no home directory.
        """
        env = os.environ if env is None else env
        if own := env.get("HOSTMESH_HOME"):
            home = Path(own).expanduser().absolute()
            return cls(config_dir=home, data_dir=home)
        return cls(
            config_dir=_xdg(env, "XDG_CONFIG_HOME", ".config") / "hostmesh",
            data_dir=_xdg(env, "XDG_DATA_HOME", ".local/share") / "hostmesh",
        )

    @property
    def config_file(self) -> Path:
        """Where the settings are looked for."""
        return self.config_dir / CONFIG_FILE_NAME

    @property
    def wallet_file(self) -> Path:
        """Where the wallet is looked for when nothing names another."""
        return self.data_dir / "wallet.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSettings:
    """Settings, and who said so."""

    settings: Settings
    origins: Mapping[str, str]
    """Per setting: ``argument``, ``environment NAME``, the TOML file's path, or ``default``."""
    paths: Paths


def load_settings(
    overrides: Mapping[str, object] | None = None,
    env: Mapping[str, str] | None = None,
    toml_path: Path | None = None,
) -> LoadedSettings:
    """Put the settings together.

    Args:
        overrides: settings by name that beat everything. A value of None counts as not given.
        env: the environment; None = the process's own.
        toml_path: file to read; it must exist. None = ``HOSTMESH_CONFIG`` (must exist), else ``config.toml`` in the
            configuration folder if there is one.

    Raises:
        ConfigError: a name that is not known, or a value that is wrong; ``name`` and ``source`` say which and where.

    >>> loaded = load_settings({"max_connections": 3}, {"P2P_ENABLE_DHT": "false", "HOSTMESH_HOME": "/nowhere"})
    >>> loaded.settings.enable_dht, loaded.origins["enable_dht"], loaded.origins["max_connections"]
    (False, 'environment P2P_ENABLE_DHT', 'argument')
    """
    env = os.environ if env is None else env
    paths = Paths.from_environment(env)
    values: dict[str, object] = {}
    origins = dict.fromkeys(CHECKS, "default")
    for name, value in _from_toml(_toml_file(toml_path, env, paths)):
        values[name], origins[name] = value
    for name, value in _from_environment(env):
        values[name], origins[name] = value
    for name, given in (overrides or {}).items():
        if name not in CHECKS:
            raise _unknown(name, CHECKS, source="argument")
        if given is not None:
            values[name], origins[name] = _check(name, given, source="argument"), "argument"
    # Every value went through its check, which returns what the field's annotation says.
    return LoadedSettings(settings=Settings(**values), origins=origins, paths=paths)  # type: ignore[arg-type]


def setting_names() -> tuple[str, ...]:
    """Return the names of all settings, in the order of the class."""
    return tuple(CHECKS)


def environment_names(name: str) -> tuple[str, ...]:
    """Return the environment variables of a setting, the strongest first."""
    own = f"HOSTMESH_{name.upper()}"
    return (own, _SEED_NAMES[name]) if name in _SEED_NAMES else (own,)


def default_of(name: str) -> object:
    """Return a setting's default."""
    return next(field.default for field in fields(Settings) if field.name == name and field.default is not MISSING)


# --- sources ---


def _xdg(env: Mapping[str, str], name: str, below_home: str) -> Path:
    """The folder a variable names; the specification has relative ones ignored."""
    given = Path(env.get(name, ""))
    if given.is_absolute():
        return given
    if (home := env.get("HOME")) and Path(home).is_absolute():
        return Path(home) / below_home
    try:
        return Path.home() / below_home
    except RuntimeError as error:
        raise ConfigError(
            "this user has no home directory",
            name="HOSTMESH_HOME",
            source="environment",
            remedy="set HOSTMESH_HOME to a folder",
        ) from error


def _toml_file(given: Path | None, env: Mapping[str, str], paths: Paths) -> Path | None:
    if given is None and (named := env.get("HOSTMESH_CONFIG")):
        given = Path(named)
    if given is not None:
        return given
    return paths.config_file if paths.config_file.exists() else None


def _from_toml(path: Path | None) -> Iterable[tuple[str, tuple[object, str]]]:
    if path is None:
        return
    import tomllib

    source = str(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}", source=source, remedy="name a file that exists and is readable"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not TOML: {error}", source=source, remedy="see docs/configuration.md for an example"
        ) from error
    for name, value in table.items():
        if name not in CHECKS:
            raise _unknown(name, CHECKS, source=source)
        checked = _check(name, value, source=source)
        if isinstance(checked, Path):
            checked = path.parent / checked  # relative to the file that says it, not to where the command runs
        yield name, (checked, source)


def _from_environment(env: Mapping[str, str]) -> Iterable[tuple[str, tuple[object, str]]]:
    known = {variable: name for name in CHECKS for variable in environment_names(name)}
    for variable in env:
        if (
            variable.startswith("HOSTMESH_")
            and variable not in known
            and variable not in _NAMED_ELSEWHERE
            and not variable.startswith(_HOST_DAEMON_PREFIX)
        ):
            raise _unknown(variable, (*known, *_NAMED_ELSEWHERE), source="environment")
    for name in CHECKS:
        given = [variable for variable in environment_names(name) if env.get(variable)]
        if not given:
            continue
        source = f"environment {given[0]}"
        if len(given) > 1:
            source += f" (over {given[1]})"
        yield name, (_check(name, _from_text(name, env[given[0]], source), source=source), source)


def _unknown(name: str, known: Iterable[str], *, source: str) -> ConfigError:
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return ConfigError(
        f"unknown setting {name!r} ({source})",
        name=name,
        source=source,
        remedy=f"did you mean {close[0]}?" if close else "remove it; hostmesh config show lists all settings",
    )


# --- values ---


def _wrong(name: str, value: object, *, source: str, wanted: str) -> ConfigError:
    return ConfigError(f"{name} is {value!r} ({source})", name=name, source=source, remedy=f"give {wanted}")


def _from_text(name: str, text: str, source: str) -> object:
    """Turn an environment variable's text into what the check expects."""
    kind = type(default_of(name))
    if kind is bool:
        word = text.strip().lower()
        if word in ("true", "1", "yes", "on"):
            return True
        return False if word in ("false", "0", "no", "off") else text
    if kind is int:
        try:
            return int(text)
        except ValueError:
            return text
    if kind is tuple:
        stripped = text.strip()
        if not stripped.startswith("["):
            return [part.strip() for part in stripped.split(",") if part.strip()]
        try:
            return json.loads(stripped)
        except ValueError as error:
            raise _wrong(name, text, source=source, wanted="a JSON list of strings, or a comma list") from error
    return text


def _check(name: str, value: object, *, source: str) -> object:
    """Return the value in its one form, or refuse it."""
    accept, wanted = CHECKS[name]
    try:
        return accept(value)
    except ValueError as error:
        raise _wrong(name, value, source=source, wanted=wanted) from error
