"""Settings: precedence, origins, the variables, what is refused. Truth: seed 002, "Environment Variables"."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from hostmesh.errors import ConfigError
from hostmesh.settings import (
    LoadedSettings,
    Paths,
    Settings,
    default_of,
    environment_names,
    load_settings,
    setting_names,
)

BOOTSTRAP = "/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWRm8J3iL796zPFi2EtGGtUJn58AG67gcRzQ4FENEemvpg"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment whose home is empty."""
    return {"HOSTMESH_HOME": str(tmp_path)}


def load(env: dict[str, str], **overrides: object) -> LoadedSettings:
    return load_settings(overrides, env)


def test_the_defaults_are_the_seeds(home: dict[str, str]) -> None:
    settings = load(home).settings
    assert settings.listen_addresses == ("/ip4/127.0.0.1/tcp/0",)
    assert settings.bootstrap_nodes == ()
    assert settings.enable_dht is True
    assert settings.enable_mdns is True
    assert settings.max_connections == 100
    assert settings.connection_timeout_ms == 30_000
    assert settings.connection_timeout_s == 30.0
    assert settings.protocol_prefix == "/hostmesh"
    assert set(load(home).origins.values()) == {"default"}


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("P2P_LISTEN_ADDRESSES", '["/ip4/0.0.0.0/tcp/4001"]', "listen_addresses", ("/ip4/0.0.0.0/tcp/4001",)),
        (
            "P2P_LISTEN_ADDRESSES",
            "/ip4/0.0.0.0/tcp/4001, /ip6/::/tcp/4001",
            "listen_addresses",
            ("/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001"),
        ),
        ("P2P_BOOTSTRAP_NODES", f'["{BOOTSTRAP}"]', "bootstrap_nodes", (BOOTSTRAP,)),
        ("P2P_BOOTSTRAP_NODES", f"{BOOTSTRAP},{BOOTSTRAP}", "bootstrap_nodes", (BOOTSTRAP, BOOTSTRAP)),
        ("P2P_BOOTSTRAP_NODES", "[]", "bootstrap_nodes", ()),
        ("P2P_ENABLE_DHT", "false", "enable_dht", False),
        ("P2P_ENABLE_DHT", "1", "enable_dht", True),
        ("P2P_ENABLE_MDNS", "False", "enable_mdns", False),
        ("P2P_ENABLE_MDNS", "on", "enable_mdns", True),
        ("P2P_MAX_CONNECTIONS", "25", "max_connections", 25),
        ("P2P_CONNECTION_TIMEOUT", "1500", "connection_timeout_ms", 1500),
        ("HOSTMESH_LISTEN_ADDRESSES", "[]", "listen_addresses", ()),
        ("HOSTMESH_ANNOUNCE_ADDRESSES", "/dns4/a.example/tcp/1", "announce_addresses", ("/dns4/a.example/tcp/1",)),
        ("HOSTMESH_BOOTSTRAP_NODES", BOOTSTRAP, "bootstrap_nodes", (BOOTSTRAP,)),
        ("HOSTMESH_ENABLE_DHT", "no", "enable_dht", False),
        ("HOSTMESH_ENABLE_MDNS", "0", "enable_mdns", False),
        ("HOSTMESH_MAX_CONNECTIONS", "1", "max_connections", 1),
        ("HOSTMESH_CONNECTION_TIMEOUT_MS", "5", "connection_timeout_ms", 5),
        ("HOSTMESH_KEY_FILE", "/k/peer.key", "key_file", Path("/k/peer.key")),
        ("HOSTMESH_WALLET_FILE", "/k/wallet.json", "wallet_file", Path("/k/wallet.json")),
        ("HOSTMESH_PROTOCOL_PREFIX", "/fabstir-llm", "protocol_prefix", "/fabstir-llm"),
        ("HOSTMESH_NETWORK", "test", "network", "test"),
        ("HOSTMESH_MDNS_INTERFACES", "eth0,lo", "mdns_interfaces", ("eth0", "lo")),
        ("HOSTMESH_LOCATION", "US/california", "location", "US/california"),
        ("HOSTMESH_LOG", "net=debug", "log", "net=debug"),
        ("HOSTMESH_LOG_JSON", "true", "log_json", True),
    ],
)
def test_environment_variables(home: dict[str, str], variable: str, text: str, name: str, value: object) -> None:
    loaded = load({**home, variable: text})
    assert getattr(loaded.settings, name) == value
    assert loaded.origins[name] == f"environment {variable}"
    assert [origin for origin in loaded.origins.values() if origin != "default"] == [loaded.origins[name]]


def test_every_setting_has_its_own_variable() -> None:
    assert all(environment_names(name)[0] == f"HOSTMESH_{name.upper()}" for name in setting_names())
    assert setting_names() == tuple(field.name for field in dataclasses.fields(Settings))


def test_hostmesh_names_beat_the_seeds_names(home: dict[str, str]) -> None:
    loaded = load({**home, "P2P_MAX_CONNECTIONS": "4", "HOSTMESH_MAX_CONNECTIONS": "7"})
    assert loaded.settings.max_connections == 7
    assert loaded.origins["max_connections"] == "environment HOSTMESH_MAX_CONNECTIONS (over P2P_MAX_CONNECTIONS)"


def test_an_empty_variable_counts_as_not_set(home: dict[str, str]) -> None:
    loaded = load({**home, "P2P_MAX_CONNECTIONS": "", "HOSTMESH_LISTEN_ADDRESSES": "", "HOSTMESH_KEY_FILE": ""})
    assert loaded.settings == Settings()


def test_keyword_beats_environment_beats_toml_beats_default(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("max_connections = 1\nconnection_timeout_ms = 1\nenable_dht = false\n")
    loaded = load({**home, "P2P_MAX_CONNECTIONS": "2", "P2P_CONNECTION_TIMEOUT": "2"}, max_connections=3)
    assert loaded.settings.max_connections == 3
    assert loaded.origins["max_connections"] == "argument"
    assert loaded.settings.connection_timeout_ms == 2
    assert loaded.origins["connection_timeout_ms"] == "environment P2P_CONNECTION_TIMEOUT"
    assert loaded.settings.enable_dht is False
    assert loaded.origins["enable_dht"] == str(tmp_path / "config.toml")
    assert loaded.origins["enable_mdns"] == "default"


def test_a_keyword_of_none_is_not_given(home: dict[str, str]) -> None:
    assert load(home, max_connections=None, key_file=None).origins["max_connections"] == "default"


def test_toml_holds_every_kind_of_value(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        f'bootstrap_nodes = ["{BOOTSTRAP}"]\nkey_file = "keys/peer.key"\nwallet_file = "/abs/wallet"\nlog_json = true\n'
    )
    settings = load(home).settings
    assert settings.bootstrap_nodes == (BOOTSTRAP,)
    assert settings.key_file == tmp_path / "keys/peer.key", "relative to the file, not to the working directory"
    assert settings.wallet_file == Path("/abs/wallet")
    assert settings.log_json is True


def test_a_named_toml_file_replaces_the_default_one(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("max_connections = 1\n")
    other = tmp_path / "other.toml"
    other.write_text("enable_dht = false\n")
    for loaded in (load_settings({}, home, other), load({**home, "HOSTMESH_CONFIG": str(other)})):
        assert loaded.settings.max_connections == 100
        assert loaded.origins["enable_dht"] == str(other)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ("max_conections = 3", "max_conections"),
        ("[node]\nmax_connections = 3", "node"),
        ("max_connections = ", "not TOML"),
        ('max_connections = "many"', "max_connections"),
        ("max_connections = true", "max_connections"),
        ("enable_dht = 1", "enable_dht"),
        ('listen_addresses = "/ip4/127.0.0.1/tcp/0"', "listen_addresses"),
    ],
)
def test_a_wrong_toml_file_is_refused(home: dict[str, str], tmp_path: Path, content: str, fragment: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load(home)
    assert fragment in caught.value.message
    assert caught.value.source == str(path)
    assert caught.value.remedy


def test_a_toml_file_that_is_not_there_or_not_text(home: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_settings({}, home, tmp_path / "absent.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_settings({}, home, binary)


@pytest.mark.parametrize(
    ("variable", "closest"),
    [("HOSTMESH_MAX_CONECTIONS", "HOSTMESH_MAX_CONNECTIONS"), ("HOSTMESH_HOMES", "HOSTMESH_HOME")],
)
def test_an_unknown_variable_is_refused_with_the_closest(home: dict[str, str], variable: str, closest: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({**home, variable: "1"})
    assert caught.value.name == variable
    assert caught.value.source == "environment"
    assert closest in caught.value.remedy


def test_an_unknown_keyword_is_refused(home: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="enable_dth") as caught:
        load(home, enable_dth=False)
    assert "enable_dht" in caught.value.remedy


def test_variables_of_others_are_left_alone(home: dict[str, str]) -> None:
    loaded = load({**home, "P2P_SOMETHING_ELSE": "x", "HOSTMESH_HOST_ENGINE": "x", "PATH": "/bin"})
    assert loaded.settings == Settings()


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("P2P_ENABLE_DHT", "perhaps"),
        ("P2P_MAX_CONNECTIONS", "0"),
        ("P2P_MAX_CONNECTIONS", "ten"),
        ("P2P_MAX_CONNECTIONS", "100001"),
        ("P2P_CONNECTION_TIMEOUT", "-1"),
        ("P2P_CONNECTION_TIMEOUT", "30s"),
        ("P2P_LISTEN_ADDRESSES", "127.0.0.1:4001"),
        ("P2P_LISTEN_ADDRESSES", '["/ip4/0.0.0.0/tcp/4001"'),
        ("P2P_LISTEN_ADDRESSES", "[4001]"),
        ("P2P_BOOTSTRAP_NODES", "/ip4/192.0.2.7/tcp/4001"),
        ("P2P_BOOTSTRAP_NODES", ",".join([BOOTSTRAP] * 65)),
        ("HOSTMESH_PROTOCOL_PREFIX", "hostmesh"),
        ("HOSTMESH_PROTOCOL_PREFIX", "/"),
        ("HOSTMESH_PROTOCOL_PREFIX", "/a b"),
        ("HOSTMESH_PROTOCOL_PREFIX", "/a/"),
        ("HOSTMESH_NETWORK", "a\x1b[31mb"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_place(home: dict[str, str], variable: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({**home, variable: text})
    assert variable in caught.value.source
    assert variable in environment_names(caught.value.name)
    assert caught.value.remedy.startswith("give ")
    assert "\x1b" not in caught.value.message


def test_direct_construction_is_checked_and_frozen() -> None:
    assert Settings(key_file="x").key_file == Path("x")  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        Settings(max_connections=0)
    assert (caught.value.name, caught.value.source) == ("max_connections", "argument")
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().max_connections = 3  # type: ignore[misc]
    assert dataclasses.replace(Settings(), max_connections=3).max_connections == 3


def test_default_of_is_what_the_class_gives() -> None:
    assert {name: default_of(name) for name in setting_names()} == dataclasses.asdict(Settings())


def test_paths_follow_xdg() -> None:
    env = {"XDG_CONFIG_HOME": "/x/config", "XDG_DATA_HOME": "/x/data", "HOME": "/home/a"}
    paths = Paths.from_environment(env)
    assert (paths.config_dir, paths.data_dir) == (Path("/x/config/hostmesh"), Path("/x/data/hostmesh"))


def test_paths_without_xdg_are_under_home_and_relative_xdg_is_ignored() -> None:
    for env in ({"HOME": "/home/a"}, {"HOME": "/home/a", "XDG_CONFIG_HOME": "rel", "XDG_DATA_HOME": ""}):
        paths = Paths.from_environment(env)
        assert paths.config_file == Path("/home/a/.config/hostmesh/config.toml")
        assert paths.wallet_file == Path("/home/a/.local/share/hostmesh/wallet.json")


def test_hostmesh_home_beats_xdg() -> None:
    paths = Paths.from_environment({"HOSTMESH_HOME": "/h", "XDG_DATA_HOME": "/x", "HOME": "/home/a"})
    assert (paths.config_dir, paths.data_dir) == (Path("/h"), Path("/h"))


def test_the_module_imports_nothing_heavy() -> None:
    """What is not imported keeps the CPU limit of ``import hostmesh`` (0.1 s), on a busy machine too."""
    code = "import hostmesh.settings, sys; print(sorted({n.split('.')[0] for n in sys.modules}))"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("pydantic", "trio", "libp2p", "eth_account", "structlog", "typer", "rich", "tomllib"):
        assert f"'{heavy}'" not in names
