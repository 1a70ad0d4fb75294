"""TLS over TCP through trio and the standard library. A call is a connection of its own, with a whole handshake."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import trio
from tests.benchmarks.transport.peers.certificate import (
    ServerCertificate,
    join_address,
    make_certificate,
    split_address,
)
from tests.benchmarks.transport.peers.endpoint import Served
from tests.benchmarks.transport.peers.tcp import ConnectingEndpoint, serve_connection


class TlsStack:
    """TLS as the default contexts of ``ssl`` negotiate it; the client checks chain and address."""

    backend: Literal["trio"] = "trio"

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Served]:
        certificate = make_certificate()
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_ssl_over_tcp_listeners(0, _server_context(certificate), host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve_connection, listeners)
            port = listeners[0].transport_listener.socket.getsockname()[1]
            settings = {
                "trio": trio.__version__,
                "openssl": ssl.OPENSSL_VERSION,
                "call": "a new connection each",
                "nodelay": True,
                "certificates": "P-256; the client checks the server's, the server asks for none",
            }
            yield Served(join_address(port, certificate.authority), settings)
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[ConnectingEndpoint]:
        context: ssl.SSLContext | None = None

        async def connect(address: str) -> trio.abc.Stream:
            nonlocal context
            target, authority = split_address(address)
            if context is None:
                # With this authority alone: reading the system's takes longer than the handshake.
                context = ssl.create_default_context(cadata=authority.decode())
            host, _, port = target.rpartition(":")
            return await trio.open_ssl_over_tcp_stream(host, int(port), ssl_context=context)

        async with ConnectingEndpoint(connect) as endpoint:
            yield endpoint


def _server_context(certificate: ServerCertificate) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.TemporaryDirectory() as folder:
        chain, key = Path(folder, "chain.pem"), Path(folder, "key.pem")
        chain.write_bytes(certificate.chain)
        key.write_bytes(certificate.key)
        context.load_cert_chain(chain, key)
    return context
