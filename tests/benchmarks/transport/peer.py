"""A peer of the benchmark in a process of its own, on one of the Python stacks.

Usage: python -m tests.benchmarks.transport.peer STACK bench-server
       python -m tests.benchmarks.transport.peer STACK bench-client ADDRESS
"""

from __future__ import annotations

import importlib
import logging
import sys

import anyio
from tests.benchmarks.transport.peers.client import Client
from tests.benchmarks.transport.peers.endpoint import Stack
from tests.benchmarks.transport.peers.server import run_server

PYTHON_STACKS = {
    "tcp": "tcp:TcpStack",
    "tls": "tls:TlsStack",
    "grpc": "grpc_aio:GrpcStack",
    "stock": "stock:StockStack",
    "hostmesh": "hostmesh_rpc:HostmeshStack",
}
"""Module and class of each, imported alone: no stack's modules are in another's process."""


def load_stack(name: str) -> Stack:
    """Import a stack."""
    module, _, kind = PYTHON_STACKS[name].partition(":")
    stack: Stack = getattr(importlib.import_module(f"tests.benchmarks.transport.peers.{module}"), kind)()
    return stack


def main(arguments: list[str]) -> int:
    """Run a peer until standard input ends; return the exit code."""
    match arguments:
        case [name, "bench-server"] if name in PYTHON_STACKS:
            stack = load_stack(name)
            anyio.run(run_server, stack, backend=stack.backend)
        case [name, "bench-client", address] if name in PYTHON_STACKS:
            stack = load_stack(name)
            anyio.run(Client(stack, address).run, backend=stack.backend)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    sys.exit(main(sys.argv[1:]))
