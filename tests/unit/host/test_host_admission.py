"""Who may open sessions, as an operator says it: settings, a list of wallets that changes, a plug-in."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from hostmesh import ConfigError, UsageError, parse_allow_list
from hostmesh_host import admission
from hostmesh_host.admission import AllowListWatch, admission_policy, load_verifier, read_allow_list, stamp
from hostmesh_host.settings import HostSettings, load_host_settings

# From EIP-55.
FIRST = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
SECOND = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
KEY = "4f3edf983ac636a65a842ce7c78d9aa706d3b113bce9c46f30d7d21715b23b1d"


def raw(text: str) -> bytes:
    return bytes.fromhex(text[2:])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "wallets.txt"
    path.write_text(f"# friends\n{FIRST}  # the office\n\n  {SECOND.lower()}\n{FIRST.lower()}\n")
    return path


def test_a_list_is_read(file: Path) -> None:
    assert read_allow_list(file) == {raw(FIRST), raw(SECOND)}


@pytest.mark.parametrize(
    "line", ["0x12", FIRST[2:], FIRST + "0", FIRST.replace("5aA", "5AA"), KEY, f"{FIRST} {SECOND}"]
)
def test_a_line_that_is_no_address_is_named_and_not_shown(line: str, file: Path) -> None:
    file.write_text(f"{SECOND}\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        read_allow_list(file)
    assert "line 2" in caught.value.message
    assert str(file) in caught.value.message
    assert caught.value.name == "allow_list"
    assert line not in caught.value.message + caught.value.remedy
    with pytest.raises(UsageError):
        parse_allow_list(file.read_text())


def test_a_list_has_a_bound() -> None:
    addresses = [f"0x{number:040x}" for number in range(65_537)]
    assert len(parse_allow_list("\n".join(addresses[:-1]))) == 65_536
    with pytest.raises(UsageError):
        parse_allow_list("\n".join(addresses))


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_list_that_others_may_write_to_is_refused(mode: int, file: Path) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        read_allow_list(file)
    assert "others may write" in caught.value.message
    file.chmod(0o644)
    assert read_allow_list(file)


def test_what_is_no_list_is_refused(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for path in (tmp_path / "none", tmp_path, tmp_path / "pipe", binary):
        with pytest.raises(ConfigError) as caught:
            read_allow_list(path)
        assert caught.value.remedy
    monkeypatch.setattr(admission, "MAX_LIST_BYTES", 50)
    with pytest.raises(ConfigError):
        read_allow_list(file)


# --- settings ---


def test_settings_become_a_policy(file: Path) -> None:
    (file.parent / "host.toml").write_text(
        'allow_list = "wallets.txt"\nonly_allowed = true\nmin_client_reputation = 300\nsessions_per_wallet = 6\n'
        "sessions_per_peer = 12\nsessions_per_network = 60\nmax_work_bits = 20\n"
    )
    settings = load_host_settings({}, config_dir=file.parent, stored={}, env={}).settings
    policy = admission_policy(settings)
    assert policy.only_listed
    assert policy.allowed_wallets == {raw(FIRST), raw(SECOND)}
    assert policy.min_reputation == 300
    assert (policy.sessions_per_wallet.per_second, policy.sessions_per_wallet.burst) == (0.1, 6)
    assert (policy.sessions_per_peer.per_second, policy.sessions_per_peer.burst) == (0.2, 12)
    assert (policy.sessions_per_network.per_second, policy.sessions_per_network.burst) == (1.0, 60)
    assert policy.attack.max_bits == 20


def test_without_settings_everybody_is_served() -> None:
    policy = admission_policy(HostSettings())
    assert not policy.only_listed
    assert policy.min_reputation == 0
    assert policy.attack.max_bits == 18


@pytest.mark.parametrize(("most", "first"), [(0, 14), (1, 1), (13, 13), (14, 14), (32, 14)])
def test_the_first_work_is_not_more_than_the_most(most: int, first: int) -> None:
    attack = admission_policy(HostSettings(max_work_bits=most)).attack
    assert (attack.max_bits, attack.first_bits) == (most, first)


@pytest.mark.parametrize(
    "values",
    [
        {"only_allowed": True},
        {"only_allowed": "yes"},
        {"min_client_reputation": 1001},
        {"min_client_reputation": -1},
        {"sessions_per_wallet": 0},
        {"sessions_per_peer": True},
        {"sessions_per_network": 0.5},
        {"max_work_bits": 33},
        {"deposit_verifier": "module"},
        {"deposit_verifier": "a b:c"},
        {"deposit_verifier": "a:b.c()"},
    ],
)
def test_what_is_wrong_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        HostSettings(**values)  # type: ignore[arg-type]
    assert caught.value.name == next(iter(values))
    assert caught.value.remedy


def test_the_environment_says_the_same(file: Path) -> None:
    env = {
        "HOSTMESH_HOST_ALLOW_LIST": str(file),
        "HOSTMESH_HOST_ONLY_ALLOWED": "true",
        "HOSTMESH_HOST_MIN_CLIENT_REPUTATION": "5",
        "HOSTMESH_HOST_DEPOSIT_VERIFIER": "shop.desk:Desk",
        "HOSTMESH_HOST_MAX_WORK_BITS": "0",
        "HOSTMESH_HOST_MAX_SLICE_TOKENS": "4096",
    }
    settings = load_host_settings({}, config_dir=file.parent, stored={}, env=env).settings
    assert settings.only_allowed
    assert (settings.allow_list, settings.min_client_reputation) == (file, 5)
    assert (settings.deposit_verifier, settings.max_work_bits) == ("shop.desk:Desk", 0)
    assert settings.max_slice_tokens == 4096


# --- the plug-in ---


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_for_tests.py").write_text(
        "class Desk:\n"
        "    async def verify_deposit(self, claim):\n"
        "        return claim\n"
        "def broken():\n"
        "    raise RuntimeError('postgres://user:hunter2@db')\n"
        "nothing = object\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shop_for_tests", raising=False)


@pytest.mark.usefixtures("shop")
async def test_a_plug_in_is_loaded_by_its_name() -> None:
    desk = load_verifier("shop_for_tests:Desk")
    claim: object = object()
    assert await desk.verify_deposit(claim) is claim  # type: ignore[arg-type, comparison-overlap]


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("no_such_module:Desk", "no_such_module"),
        ("shop_for_tests:Counter", "Counter"),
        ("shop_for_tests:broken", "RuntimeError"),
        ("shop_for_tests:nothing", "verify_deposit"),
    ],
)
def test_a_plug_in_that_cannot_be_used_ends_the_start(name: str, word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_verifier(name)
    assert word in caught.value.message
    assert "hunter2" not in caught.value.message
    assert caught.value.name == "deposit_verifier"


# --- a list that changes ---


def write(path: Path, text: str) -> None:
    path.write_text(text)


async def changes_within(watch: AllowListWatch, seconds: float) -> frozenset[bytes] | None:
    with trio.move_on_after(seconds):
        return (await watch.changed()).allowed_wallets
    return None


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads and a clock that jumps do not go together: the file is looked at in the task."""

    async def run_sync(function: object, *arguments: object) -> object:
        assert callable(function)
        await trio.lowlevel.checkpoint()
        return function(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


@pytest.mark.usefixtures("looks")
async def test_a_list_that_changes_is_read_again(file: Path, autojump_clock: trio.testing.MockClock) -> None:
    watch = AllowListWatch(HostSettings(allow_list=file), stamp(file))
    assert await changes_within(watch, 60) is None
    write(file, FIRST)
    start = trio.current_time()
    assert await changes_within(watch, 60) == {raw(FIRST)}
    assert trio.current_time() - start <= 2
    # Replaced, as editors and provisioning do, with as many bytes.
    other = file.with_name("new")
    write(other, SECOND)
    other.replace(file)
    assert await changes_within(watch, 60) == {raw(SECOND)}
    assert await changes_within(watch, 60) is None


@pytest.mark.usefixtures("looks")
async def test_a_list_that_cannot_be_used_changes_nothing(
    file: Path, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    watch = AllowListWatch(HostSettings(allow_list=file), stamp(file))
    with caplog.at_level(logging.WARNING):
        for spoil in (lambda: write(file, f"{FIRST}\nnonsense"), lambda: file.chmod(0o666), file.unlink):
            spoil()
            caplog.clear()
            assert await changes_within(watch, 60) is None
    # The last: said once, and not every two seconds.
    assert caplog.text.count("the list of wallets is as it was") == 1
    write(file, SECOND)
    assert await changes_within(watch, 60) == {raw(SECOND)}


@pytest.mark.usefixtures("looks")
async def test_without_a_list_nothing_is_watched(autojump_clock: trio.testing.MockClock) -> None:
    assert await changes_within(AllowListWatch(HostSettings(), None), 3600) is None
