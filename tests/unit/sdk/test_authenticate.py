"""sdk.authenticate: who may do what before and after, and that no secret shows when it fails."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import trio

from hostmesh import (
    SDK,
    ConfigError,
    KeyFileError,
    NodeNotRunningError,
    NotAuthenticatedError,
    UsageError,
    Wallet,
    load_settings,
    open_sdk,
)
from hostmesh.identity.keystore import create_wallet_file
from hostmesh.identity.secret import Secret

# Test vectors of others: the first account of Hardhat's well-known mnemonic, and its key.
MNEMONIC = "test test test test test test test test test test test junk"
KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
PASSWORD = "correct-horse-battery"


@pytest.fixture
async def sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SDK]:
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path / "home"))
    async with open_sdk(ephemeral_key=True) as opened:
        yield opened


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "wallet.json"
    create_wallet_file(path, password=PASSWORD, wallet=Wallet.from_private_key(KEY), scrypt_n=2)
    return path


def shown(error: BaseException) -> str:
    """Return the traceback with the locals of every frame but the test's own, and all that stands behind it."""
    texts = [repr(error), str(error)]
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        pending += [one.__cause__, one.__context__]
        tb: TracebackType | None = one.__traceback__
        if one is error:
            assert tb is not None
            tb = tb.tb_next
        texts.append("".join(traceback.TracebackException(type(one), one, tb, capture_locals=True).format()))
    return "\n".join(texts)


async def test_every_way_gives_the_same_wallet(keystore: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path / "home"))
    ways: tuple[dict[str, Any], ...] = (
        {"private_key": KEY},
        {"private_key": "0x" + KEY},
        {"private_key": bytes.fromhex(KEY)},
        {"private_key": Secret(KEY)},
        {"mnemonic": MNEMONIC},
        {"mnemonic": Secret(MNEMONIC)},
        {"keystore": keystore, "password": PASSWORD},
        {"keystore": str(keystore), "password": Secret(PASSWORD)},
        {"wallet": Wallet.from_private_key(KEY)},
    )
    for way in ways:
        async with open_sdk(ephemeral_key=True) as opened:
            assert await opened.authenticate(**way) == ADDRESS, way


@pytest.mark.parametrize(
    "getter",
    [
        "get_discovery_manager",
        "get_session_manager",
        "get_job_manager",
        "get_status_client",
        "get_host_manager",
    ],
)
async def test_nothing_before_authentication(sdk: SDK, getter: str) -> None:
    with pytest.raises(NotAuthenticatedError) as caught:
        getattr(sdk, getter)()
    assert "authenticate" in caught.value.remedy


async def test_the_same_object_after(sdk: SDK) -> None:
    await sdk.authenticate(private_key=KEY)
    assert sdk.get_discovery_manager() is sdk.get_discovery_manager()
    assert sdk.get_host_manager() is sdk.get_host_manager()


@pytest.mark.parametrize("getter", ["get_session_manager", "get_job_manager", "get_status_client"])
async def test_some_need_the_node(sdk: SDK, getter: str) -> None:
    await sdk.authenticate(private_key=KEY)
    with pytest.raises(NodeNotRunningError) as caught:
        getattr(sdk, getter)()
    assert "create_node" in caught.value.remedy


async def test_a_second_wallet_is_refused(sdk: SDK) -> None:
    await sdk.authenticate(private_key=KEY)
    with pytest.raises(UsageError, match="authenticated already"):
        await sdk.authenticate(wallet=Wallet.generate())


async def test_of_two_at_once_one_wins(sdk: SDK, keystore: Path) -> None:
    addresses: list[str | None] = []
    refused: list[UsageError] = []

    async def attempt() -> None:
        try:
            addresses.append(await sdk.authenticate(keystore=keystore, password=PASSWORD))
        except UsageError as error:
            refused.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt)
        nursery.start_soon(attempt)
    assert addresses == [ADDRESS]
    assert len(refused) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"password": PASSWORD},
        {"private_key": KEY, "mnemonic": MNEMONIC},
        {"private_key": KEY, "keystore": "/nowhere", "password": PASSWORD},
        {"private_key": KEY[:-1]},
        {"private_key": KEY[:-1] + "g"},
        {"private_key": b"\x13" * 31},
        {"private_key": "f" * 64},
        {"mnemonic": MNEMONIC + " junk"},
        {"mnemonic": MNEMONIC.replace("junk", "correct-horse-battery")},
        {"mnemonic": "correct-horse-battery"},
        {"mnemonic": ""},
        {"mnemonic": MNEMONIC, "account_index": -1},
    ],
)
async def test_what_cannot_be_used_is_refused_and_shows_no_secret(sdk: SDK, arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        await sdk.authenticate(**arguments)
    text = shown(caught.value)
    for secret in (KEY[:-1], MNEMONIC, PASSWORD, "f" * 64, "\\x13\\x13"):
        assert secret not in text
    with pytest.raises(NotAuthenticatedError):
        sdk.get_discovery_manager()
    # Nothing was taken: a good wallet still can be.
    assert await sdk.authenticate(private_key=KEY) == ADDRESS


@pytest.mark.parametrize("password", [None, PASSWORD + "-wrong", "", "\ud800" + PASSWORD])
async def test_a_keystore_that_does_not_open_shows_no_secret(sdk: SDK, keystore: Path, password: str | None) -> None:
    with pytest.raises((KeyFileError, UsageError)) as caught:
        await sdk.authenticate(keystore=keystore, password=password)
    text = shown(caught.value)
    assert PASSWORD not in text
    assert KEY not in text
    assert caught.value.remedy or isinstance(caught.value, UsageError)


async def test_an_unknown_setting_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        async with open_sdk(bootstrap_node=["/ip4/127.0.0.1/tcp/1"]):
            pytest.fail("the block was entered")
    assert caught.value.name == "bootstrap_node"


async def test_settings_and_overrides_together_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="not both"):
        async with open_sdk(load_settings({}), enable_mdns=False):
            pytest.fail("the block was entered")
