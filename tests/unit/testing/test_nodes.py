"""Many nodes at once, and services made up for a test."""

from __future__ import annotations

import pytest
import trio
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

from hostmesh import CallContext, HostmeshError, Method, UsageError, method
from hostmesh.testing import SimNetwork, make_service, open_nodes, run_sim

SERVICE = make_service("counter", streams=["Count"], Add=(Int64Value, Int64Value), Count=(Int64Value, Int64Value))
ADD = method(SERVICE, "Add", Int64Value, Int64Value)
COUNT = method(SERVICE, "Count", Int64Value, Int64Value)


class Counter:
    def __init__(self) -> None:
        self.total = 0

    async def add(self, request: Int64Value, context: CallContext) -> Int64Value:
        self.total += request.value
        return Int64Value(value=self.total)

    async def count(self, request: Int64Value, context: CallContext, send: object) -> None:
        for number in range(request.value):
            await send(Int64Value(value=number))  # type: ignore[operator]


def test_every_node_is_connected_to_the_first_and_calls_any_other() -> None:
    async def main(network: SimNetwork) -> None:
        async with open_nodes(network, 4) as nodes:
            assert [node.machine.name for node in nodes] == ["n0", "n1", "n2", "n3"]
            assert nodes[0].sdk.get_usage().connections == 3
            nodes[3].sdk.serve(SERVICE, Counter())
            assert (await nodes[1].call(nodes[3], ADD, Int64Value(value=2), timeout_s=5)).value == 2
            assert (await nodes[2].call(nodes[3], ADD, Int64Value(value=5), timeout_s=5)).value == 7
            rpc = nodes[1].sdk.get_rpc_client()
            async with rpc.server_stream(nodes[3].peer_id, COUNT, Int64Value(value=3), timeout_s=5) as responses:
                assert [response.value async for response in responses] == [0, 1, 2]

    run_sim(main)


def test_a_node_whose_machine_is_killed_ends_alone() -> None:
    async def main(network: SimNetwork) -> None:
        async with open_nodes(network, 3) as (first, second, third):
            first.sdk.serve(SERVICE, Counter())
            second.machine.kill()
            await second.machine.wait_ready()
            with pytest.raises(HostmeshError):
                await third.call(second, ADD, Int64Value(value=1), timeout_s=5)
            assert (await third.call(first, ADD, Int64Value(value=1), timeout_s=5)).value == 1
        assert not first.machine.listeners

    run_sim(main)


def test_a_call_to_a_node_that_is_cut_off_ends_by_its_deadline() -> None:
    async def main(network: SimNetwork) -> None:
        async with open_nodes(network, 3) as (_, second, third):
            second.sdk.serve(SERVICE, Counter())
            network.stall(second.machine, third.machine)
            began = trio.current_time()
            with pytest.raises(HostmeshError):
                await third.call(second, ADD, Int64Value(value=1), timeout_s=5)
            assert trio.current_time() - began == pytest.approx(5, abs=0.5)

    run_sim(main)


def test_what_the_block_raises_comes_out_as_it_is() -> None:
    async def main(network: SimNetwork) -> None:
        async with open_nodes(network, 2):
            raise LookupError("planned")

    with pytest.raises(LookupError, match="planned"):
        run_sim(main)


def test_settings_are_those_of_every_node() -> None:
    async def main(network: SimNetwork) -> None:
        with pytest.raises(HostmeshError, match="max_streams"):
            async with open_nodes(network, 2, max_streams=0):
                raise AssertionError("not reached")

    run_sim(main)


def test_one_name_may_have_other_methods_in_another_test() -> None:
    again = make_service("counter", streams=["Count"], Add=(Int64Value, Int64Value), Count=(Int64Value, Int64Value))
    other = make_service("counter", Reset=(Empty, Empty))
    assert again is SERVICE
    assert [each.name for each in other.methods] == ["Reset"]
    reset: Method[Empty, Empty] = method(other, "Reset", Empty, Empty)
    assert (reset.protocol, reset.versions, reset.is_unary) == ("counter", ("1.0.0",), True)


@pytest.mark.parametrize(("name", "streams"), [("", []), ("Counter", []), ("a/b", []), ("a.b", []), ("zähler", [])])
def test_what_names_no_protocol_is_refused(name: str, streams: list[str]) -> None:
    with pytest.raises(UsageError):
        make_service(name, streams=streams, Add=(Int64Value, Int64Value))


def test_a_service_has_methods_and_its_streams_are_some_of_them() -> None:
    with pytest.raises(UsageError):
        make_service("empty")
    with pytest.raises(UsageError):
        make_service("counter", streams=["Other"], Add=(Int64Value, Int64Value))


def test_text_without_a_bound_is_refused_when_it_is_sent() -> None:
    service = make_service("talk", Say=(StringValue, Empty))
    say = method(service, "Say", StringValue, Empty)

    class Talk:
        async def say(self, request: StringValue, context: CallContext) -> Empty:
            raise AssertionError("not reached")

    async def main(network: SimNetwork) -> None:
        async with open_nodes(network, 2) as (first, second):
            first.sdk.serve(service, Talk())
            with pytest.raises(TypeError, match=r"StringValue\.value has no bound"):
                await second.call(first, say, StringValue(value="a"), timeout_s=5)

    run_sim(main)
