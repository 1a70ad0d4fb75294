"""Opens hostmesh: reads the settings, builds a node with all its services, owns the one nursery in which they live."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from hostmesh.data_files import DataFiles
from hostmesh.discovery.collaborators import NodeOptions, RunningNode
from hostmesh.discovery.events import HostRevoked
from hostmesh.discovery.manager import DiscoveryManager
from hostmesh.discovery.records import RecordBook
from hostmesh.errors import NotAuthenticatedError, StoreError, UsageError
from hostmesh.hosting import HostManager
from hostmesh.identity.binding import verify_binding
from hostmesh.identity.delegation import load_delegation
from hostmesh.identity.operator import OperatorBinding
from hostmesh.identity.revocation import verify_revocation
from hostmesh.identity.secret import Secret, as_secret
from hostmesh.identity.wallet import Wallet, wrap_private_key
from hostmesh.identity.wallet_source import open_wallet
from hostmesh.job_history import JobHistory, says_draining
from hostmesh.jobs.client import JobManager
from hostmesh.model_check_door import ModelCheckDoor
from hostmesh.net.network import Network
from hostmesh.node_runner import NodeRunner
from hostmesh.node_stack import SourceFactory
from hostmesh.nursery import open_own_nursery
from hostmesh.receipt_exchange import ReceiptExchange
from hostmesh.receipts.counting import TokenCounter
from hostmesh.receipts.service import ReceiptServer
from hostmesh.reputation.history import HostHistory
from hostmesh.rpc.interceptors import ClientInterceptor, ServerInterceptor
from hostmesh.sessions.client import SessionManager
from hostmesh.settings import LoadedSettings, load_settings
from hostmesh.status.client import StatusClient
from hostmesh.system import System
from hostmesh.v1 import session_pb2

_log = logging.getLogger("hostmesh.sdk")


class SDK(ModelCheckDoor):
    """One hostmesh: a wallet, a node and what they do. :func:`open_sdk` makes it."""

    def __init__(
        self,
        loaded: LoadedSettings,
        nursery: trio.Nursery,
        stores: ExitStack,
        *,
        system: System,
        network: Network | None,
        sources: SourceFactory | None,
        ephemeral_key: bool,
        in_memory: bool,
        serve_dht: bool,
        client_interceptors: Sequence[ClientInterceptor],
        server_interceptors: Sequence[ServerInterceptor],
        tokenizers: Sequence[TokenCounter],
    ) -> None:
        files = DataFiles(loaded, stores, ephemeral_key=ephemeral_key, in_memory=in_memory, system=system)
        super().__init__(files, system)
        self.settings = loaded.settings
        """The settings as they were read."""
        self._nursery = nursery
        self._stores = stores
        self._tokenizers = {each.tokenizer_sha256: each for each in tokenizers}
        self._wallet: Wallet | None = None
        self._delegation: session_pb2.Delegation | None = None
        self._binding: OperatorBinding | None = None
        self._discovery: DiscoveryManager | None = None
        self._sessions: SessionManager | None = None
        self._stop_hearing: Callable[[], None] = lambda: None
        self._jobs: JobManager | None = None
        self._receipts: ReceiptExchange | None = None
        self._hosts: HostManager | None = None
        self._records = RecordBook(
            network=self.settings.network,
            verify_binding=verify_binding,
            verify_revocation=verify_revocation,
            system=system,
        )
        self._runner = NodeRunner(
            settings=self.settings,
            files=self._files,
            records=self._records,
            nursery=nursery,
            system=system,
            network=network,
            make_sources=sources,
            serve_dht=serve_dht,
            client_interceptors=client_interceptors,
            server_interceptors=server_interceptors,
        )

    async def authenticate(
        self,
        *,
        private_key: Secret | str | bytes | None = None,
        keystore: Path | str | None = None,
        password: Secret | str | None = None,
        mnemonic: Secret | str | None = None,
        account_index: int = 0,
        wallet: Wallet | None = None,
        binding_file: Path | str | None = None,
        delegation_file: Path | str | None = None,
    ) -> str | None:
        """Take the wallet that signs for this node. Local: no network, no chain.

        Args:
            private_key: 32 bytes, or as hexadecimal.
            keystore: a keystore V3 or raw key file that its owner alone can read.
            password: of the keystore.
            mnemonic: BIP-39 words; ``account_index`` chooses the account of the path m/44'/60'/0'/0/i.
            account_index: see ``mnemonic``.
            wallet: one that is open already.
            binding_file: for a host: the operator's binding of this node's peer key. It alone is enough to serve;
                with a wallet, a binding that nears its end is signed anew and kept there.
            delegation_file: an owner's word that the wallet, a session key, opens sessions in the owner's name.

        Returns:
            The wallet's address with its EIP-55 checksum; None when there is a binding only.

        Raises:
            UsageError: none or several ways were given, or this SDK has a wallet already.
            KeyFileError: the file cannot be read or trusted, or the password is wrong.

        Cost: a keystore takes about a second of CPU in a worker thread (scrypt).
        """
        # From here on no local of this frame holds a secret in the clear: a traceback may show locals.
        private_key = None if private_key is None else wrap_private_key(private_key)
        password = None if password is None else as_secret(password)
        mnemonic = None if mnemonic is None else as_secret(mnemonic)
        self._refuse_second_wallet()
        wallet = await open_wallet(
            wallet, private_key, keystore, password, mnemonic, account_index, is_needed=binding_file is None
        )
        self._refuse_second_wallet()
        self._delegation = None if delegation_file is None else load_delegation(Path(delegation_file))
        self._wallet = wallet
        self._binding = OperatorBinding(
            network=self.settings.network,
            system=self._system,
            wallet=wallet,
            path=None if binding_file is None else Path(binding_file),
        )
        return None if wallet is None else wallet.address

    def get_discovery_manager(self) -> DiscoveryManager:
        """Return the manager that runs the node and finds hosts; always the same object.

        Raises:
            NotAuthenticatedError: call :meth:`authenticate` first.
        """
        self._require_authentication()
        if self._discovery is None:
            self._discovery = DiscoveryManager(
                open_node=self._open_node,
                nursery=self._nursery,
                records=self._records,
                reputation=self._files.reputation,
                standings=self._files.standings,
                system=self._system,
            )
        return self._discovery

    def get_session_manager(self) -> SessionManager:
        """Return what opens sessions with this wallet; the same object as long as the node runs.

        Raises:
            NotAuthenticatedError: there is no wallet, or a host's binding only.
            NodeNotRunningError: ``create_node`` comes first.
        """
        self._require_authentication()
        if self._wallet is None:
            raise NotAuthenticatedError("a binding alone opens no sessions", remedy="authenticate with a wallet")
        stack = self._running()
        if self._sessions is None:
            self._sessions = SessionManager(
                caller=stack.rpc,
                wallet=self._wallet,
                peer_id=stack.node.peer_id,
                network=self.settings.network,
                system=self._system,
                store=self._files.sessions,
                delegation=self._delegation,
                bindings=self._records.revoking,
            )
            self._stop_hearing = self._records.events.listen_for(HostRevoked, self._end_sessions)
        return self._sessions

    def get_job_manager(self) -> JobManager:
        """Return what runs jobs on hosts; the same object as long as the node runs.

        Raises:
            NotAuthenticatedError: call :meth:`authenticate` first.
            NodeNotRunningError: ``create_node`` comes first.
        """
        self._require_authentication()
        stack = self._running()
        if self._jobs is None:
            self._jobs = JobManager(
                caller=stack.rpc,
                peer_id=stack.node.peer_id,
                network=self.settings.network,
                receipts=self._files.receipts,
                outcomes=JobHistory(
                    HostHistory(self._files.reputation, self._files.standings), self.get_discovery_manager()
                ),
                watch=lambda: self._checks,
                says_draining=partial(says_draining, stack.records),
                is_leaving=lambda: self._stack is not stack,
                counter_of=self._tokenizers.get,
                system=self._system,
            )
        return self._jobs

    def get_receipt_exchange(self) -> ReceiptExchange:
        """Return what shares receipts with peers, and asks them for theirs; the same object as long as the node runs.

        Raises:
            NotAuthenticatedError: call :meth:`authenticate` first.
            NodeNotRunningError: ``create_node`` comes first.
        """
        self._require_authentication()
        stack = self._running()
        if self._receipts is None:
            self._receipts = ReceiptExchange(
                node=stack.node,
                caller=stack.rpc,
                receipts=self._files.receipts,
                reputation=self._files.reputation,
                network=self.settings.network,
                own_wallets=() if self._wallet is None else (self._wallet.address_bytes,),
                serve=self._share_receipts,
                note_neighbour=self._files.neighbours.record,
                system=self._system,
            )
        return self._receipts

    def get_status_client(self) -> StatusClient:
        """Return what pings peers and watches their load.

        Raises:
            NotAuthenticatedError: call :meth:`authenticate` first.
            NodeNotRunningError: ``create_node`` comes first.
        """
        self._require_authentication()
        return self._running().status

    def get_host_manager(self) -> HostManager:
        """Return what makes this node a compute host; always the same object.

        Raises:
            NotAuthenticatedError: call :meth:`authenticate` first.
        """
        binding = self._require_authentication()
        if self._hosts is None:
            self._hosts = HostManager(
                stack=self._running,
                binding=binding,
                network=self.settings.network,
                system=self._system,
                session_store=self._files.hosted_sessions,
                receipts=lambda: self._files.receipts,
                clients=lambda: self._files.clients,
            )
        return self._hosts

    async def close(self) -> None:
        """Stop the node and close the stores. Idempotent; leaving :func:`open_sdk` does it."""
        if self._discovery is not None:
            await self._discovery.stop()
        self._stores.close()

    # --- inside ---

    def _end_sessions(self, event: HostRevoked) -> None:
        if self._sessions is not None:
            self._sessions.end_sessions_of(event.peer_id, event.operator)

    def _refuse_second_wallet(self) -> None:
        if self._binding is not None:
            raise UsageError("this SDK is authenticated already", remedy="open another SDK for another wallet")

    def _require_authentication(self) -> OperatorBinding:
        if self._binding is None:
            raise NotAuthenticatedError(
                "no wallet yet", remedy='await sdk.authenticate(keystore="wallet.json", password="...")'
            )
        return self._binding

    @asynccontextmanager
    async def _open_node(self, options: NodeOptions) -> AsyncIterator[RunningNode]:
        async with self._runner.run(options, self._require_authentication()) as (self._stack, node):
            try:
                self._share_receipts()
                yield node
            finally:
                self._stop_hearing()
                self._stack = self._sessions = self._jobs = self._receipts = None

    def _share_receipts(self) -> None:
        """Answer peers that ask for receipts, if there is any that they may be told. Idempotent."""
        stack = self._running()
        try:
            if not self._files.shares_receipts():
                return
        except StoreError as error:
            # A node finds hosts and peers without it.
            _log.warning("no receipts are shared: %s", error.message)
            return
        server = ReceiptServer(self._files.receipts.shared, network=self.settings.network)
        if server.SERVICE not in stack.server.services():
            stack.serve(server, limits=None)


@asynccontextmanager
async def open_sdk(
    settings: LoadedSettings | None = None,
    *,
    system: System | None = None,
    network: Network | None = None,
    sources: SourceFactory | None = None,
    ephemeral_key: bool = False,
    in_memory: bool = False,
    serve_dht: bool = False,
    client_interceptors: Sequence[ClientInterceptor] = (),
    server_interceptors: Sequence[ServerInterceptor] = (),
    tokenizers: Sequence[TokenCounter] = (),
    **overrides: object,
) -> AsyncIterator[SDK]:
    """Open hostmesh for the life of the block. No network I/O happens before ``create_node``.

    Args:
        settings: as :func:`hostmesh.load_settings` read them; None = read them now.
        system: clocks and random bytes; None = the machine's.
        network: the sockets; None = the machine's.
        sources: makes the discovery sources of a node; None = those of the settings.
        ephemeral_key: a new peer key that is kept nowhere, so that several programs can run at once; else the key file
            is used and locked.
        in_memory: keep what is learnt of hosts, sessions and receipts in memory, and lose it with the SDK; on disk is
            the key file alone, if one is used. For read-only disks, and for very many nodes in one process.
        serve_dht: answer other nodes' DHT queries, as bootstrap nodes and hosts do.
        client_interceptors: around every call that this node makes, hostmesh's own among them; the first outermost.
        server_interceptors: around every handler of this node, hostmesh's own among them; the first outermost.
        tokenizers: count again what hosts claim for jobs of their models; without one, bytes bound it.
        **overrides: settings by name; they beat the environment and the configuration file.

    Yields:
        The SDK. Leaving the block stops the node, cancels and joins every task, and closes every file.

    Raises:
        ConfigError: a setting is wrong; nothing was started.

    Cancellation: safe; clean-up is bounded in time.
    """
    loaded = settings or load_settings(overrides)
    if settings is not None and overrides:
        raise UsageError("open_sdk takes settings or overrides, not both", remedy="load_settings(overrides)")
    async with open_own_nursery() as nursery:
        with ExitStack() as stores:
            sdk = SDK(
                loaded,
                nursery,
                stores,
                system=system or System(),
                network=network,
                sources=sources,
                ephemeral_key=ephemeral_key,
                in_memory=in_memory,
                serve_dht=serve_dht,
                client_interceptors=client_interceptors,
                server_interceptors=server_interceptors,
                tokenizers=tokenizers,
            )
            try:
                yield sdk
            finally:
                with trio.CancelScope(shield=True):
                    await sdk.close()
