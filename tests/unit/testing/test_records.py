"""Records of the factory verify with the shipped code; broken ones are refused for exactly the reason they name."""

from __future__ import annotations

import doctest
import subprocess
import sys
from typing import Any

import pytest

from hostmesh import (
    Gpu,
    Hardware,
    HostDescription,
    HostState,
    ModelKind,
    ModelOffer,
    Price,
    Reachability,
    Wallet,
)
from hostmesh.discovery.table import HostTable, Merge
from hostmesh.errors import ConfigError, RecordExpiredError, RecordInvalidError, RemoteProtocolError, UsageError
from hostmesh.testing import broken_records, records
from hostmesh.testing.broken_records import HistoryFault, RecordFault, make_broken_history, make_broken_record
from hostmesh.testing.records import (
    DEFAULT_ADDRESSES,
    EPOCH_UNIX_S,
    make_binding,
    make_description,
    make_host_info,
    make_host_record,
    read_host_record,
)
from hostmesh.testing.wallets import make_peer_key, make_wallet

NOW = EPOCH_UNIX_S
FULL = HostDescription(
    models=[
        ModelOffer(
            model_id="chat",
            kind=ModelKind.CHAT,
            price=Price(micros_per_mtok=7, currency="EUR"),
            context_tokens=2048,
            max_output_tokens=512,
            quantisation="Q8_0",
            weights_sha256=bytes(range(32)),
            engine="fake 1",
            parameters=("seed", "stop"),
            tokenizer_sha256=bytes(range(1, 33)),
            chat_template_sha256=bytes(range(2, 34)),
            engine_version="1.2.3",
            output_millitokens_per_s=41_500,
        ),
        ModelOffer(model_id="embedding", kind=ModelKind.EMBEDDING),
    ],
    location="US/california",
    capabilities=("gpu",),
    max_concurrent_jobs=3,
    max_queued_jobs=9,
    software="soft 1",
    protocols=("/test/1",),
    hardware=Hardware(
        cpu_model="cpu", cpu_cores=8, memory_mib=16_000, gpus=[Gpu(model="gpu", memory_mib=8_000, count=2)]
    ),
    reachability=Reachability.MAPPED,
)


@pytest.mark.parametrize("module", [records, broken_records], ids=lambda module: module.__name__)
def test_docstring_examples(module: Any) -> None:
    failed, attempted = doctest.testmod(module)
    assert attempted > 0
    assert failed == 0


def test_every_field_that_is_set_is_read() -> None:
    signed = make_host_record(
        "host",
        FULL,
        network="simnet",
        sequence=41,
        issued_at_unix_s=NOW + 5,
        life_s=60,
        started_at_unix_s=NOW - 100,
        addresses=("/ip4/192.0.2.9/tcp/1", "/dns4/host.example/tcp/2/ws"),
        state=HostState.DRAINING,
    )
    info = read_host_record(signed, now_unix_s=NOW, network="simnet")
    assert info.peer_id == make_peer_key("host").peer_id
    assert info.operator == make_wallet("host").address_bytes
    assert (info.network, info.sequence, info.state) == ("simnet", 41, HostState.DRAINING)
    assert (info.issued_at_unix_s, info.expires_at_unix_s) == (NOW + 5, NOW + 65)
    assert info.started_at_unix_s == NOW - 100
    assert info.addresses == ("/ip4/192.0.2.9/tcp/1", "/dns4/host.example/tcp/2/ws")
    assert info.models == FULL.models
    assert info.place == FULL.place
    assert (info.hardware, info.reachability) == (FULL.hardware, FULL.reachability)
    assert info.capabilities == FULL.capabilities
    assert (info.max_concurrent_jobs, info.max_queued_jobs) == (3, 9)
    assert (info.software, info.protocols) == ("soft 1", ("/test/1",))


def test_keys_and_wallets_can_be_ones_own() -> None:
    key, wallet = make_peer_key("other key"), make_wallet("other wallet")
    info = read_host_record(make_host_record("host", key=key, wallet=wallet))
    assert (info.peer_id, info.operator) == (key.peer_id, wallet.address_bytes)


def test_a_real_wallet_signs_for_a_real_network_and_a_test_wallet_does_not() -> None:
    with pytest.raises(UsageError, match="test wallet"):
        make_host_record(network="hostmesh")
    wallet = Wallet.generate()
    signed = make_host_record(network="hostmesh", wallet=wallet)
    assert read_host_record(signed, network="hostmesh").operator == wallet.address_bytes


def test_a_binding_can_be_ones_own() -> None:
    key, wallet = make_peer_key("host"), make_wallet("host")
    binding = make_binding(key, wallet, issued_at_unix_s=NOW - 50, lifetime_s=60, revocation_epoch=3)
    signed = make_host_record(binding=binding)
    assert signed.binding == binding
    assert read_host_record(signed, now_unix_s=NOW + 40).sequence == 1
    with pytest.raises(RecordExpiredError) as refused:
        read_host_record(signed, now_unix_s=NOW + 41)
    assert refused.value.field == "binding.expires_at_unix_s"


def test_an_edit_is_signed_whatever_it_says() -> None:
    def edit(body: Any) -> None:
        body.addresses.append(b"no address")

    info = read_host_record(make_host_record(edit=edit))
    assert info.addresses == DEFAULT_ADDRESSES
    assert info.dropped_addresses == 1


def test_the_same_call_gives_the_same_bytes() -> None:
    assert make_host_record("a", FULL) == make_host_record("a", FULL)
    assert make_host_record("a").SerializeToString() != make_host_record("b").SerializeToString()
    assert (
        make_host_info("a", issued_at_unix_s=5).signed == make_host_record("a", issued_at_unix_s=5).SerializeToString()
    )


def test_a_verified_record_takes_the_same_fields() -> None:
    info = make_host_info("a", FULL, network="simnet", sequence=9, issued_at_unix_s=0)
    assert (info.network, info.sequence, info.issued_at_unix_s) == ("simnet", 9, 0)


def test_values_out_of_bounds_are_refused() -> None:
    for fields in ({"life_s": 121}, {"addresses": ("/ip4/192.0.2.1/tcp/1",) * 17}, {"state": HostState.UNKNOWN}):
        with pytest.raises(ConfigError):
            make_host_record(**fields)  # type: ignore[arg-type]


def test_a_description_is_short_to_write() -> None:
    offered = make_description(["a", "b"], price_micros_per_mtok=None, kind=ModelKind.EMBEDDING, location="de")
    assert offered.model_ids == ("a", "b")
    assert {offer.price for offer in offered.models} == {None}
    assert offered.location == "DE"
    assert make_description("one").model_ids == ("one",)


# --- broken ---


@pytest.mark.parametrize("description", [None, FULL], ids=["short", "full"])
@pytest.mark.parametrize("fault", RecordFault)
def test_a_broken_record_is_refused_for_its_fault(fault: RecordFault, description: HostDescription | None) -> None:
    broken = make_broken_record(fault, "mallory", description, sequence=5)
    assert broken.fault is fault
    with pytest.raises(RemoteProtocolError) as refused:
        read_host_record(broken.signed)
    assert type(refused.value) is broken.error
    field = refused.value.field if isinstance(refused.value, RecordInvalidError) else ""
    assert field == broken.field


@pytest.mark.parametrize(
    ("fault", "good_at_s"),
    [(RecordFault.EXPIRED, -1), (RecordFault.FROM_THE_FUTURE, 1), (RecordFault.BINDING_EXPIRED, -1)],
)
def test_a_fault_of_time_is_wrong_by_one_second(fault: RecordFault, good_at_s: int) -> None:
    broken = make_broken_record(fault)
    assert read_host_record(broken.signed, now_unix_s=NOW + good_at_s).sequence == 1


@pytest.mark.parametrize("fault", HistoryFault)
def test_a_broken_history_is_good_but_for_its_order(fault: HistoryFault) -> None:
    history = make_broken_history(fault, "mallory", FULL)
    first, second = (read_host_record(signed) for signed in (history.first, history.second))
    table = HostTable()
    assert table.merge(first, now=NOW) is Merge.ADDED
    assert table.merge(second, now=NOW) is history.merge
    assert second not in [host.info for host in table.live(NOW)]
    assert (first.peer_id in table.banned) is (fault is HistoryFault.EQUIVOCATION)


def test_the_older_record_would_do_alone() -> None:
    history = make_broken_history(HistoryFault.REPLAYED_AFTER_WITHDRAWAL)
    table = HostTable()
    assert table.merge(read_host_record(history.second), now=NOW) is Merge.ADDED
    assert len(table.live(NOW)) == 1
    assert table.merge(read_host_record(history.first), now=NOW) is Merge.REPLACED
    assert table.live(NOW) == []


def test_the_kit_names_each_of_its_parts_and_stays_light() -> None:
    import hostmesh.testing as kit

    for name in kit.__all__:
        assert getattr(kit, name) is not None
    heavy = ("trio", "hypothesis", "google.protobuf", "coincurve")
    code = f"import sys, hostmesh.testing; print([name for name in {heavy!r} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.strip() == "[]"
