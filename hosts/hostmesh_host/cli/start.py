"""``hostmesh-host start``."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hostmesh.cli import options
from hostmesh.cli.boundary import print_json
from hostmesh.cli.options import invocation, listed
from hostmesh.cli.terminal import field

if TYPE_CHECKING:
    from hostmesh_host.settings import HostSettings

MAX_KEY_BYTES = 4096


def start(
    context: typer.Context,
    engine: Annotated[
        list[str] | None,
        typer.Option("--engine", metavar="ENGINE", help="smollm2 (the default), minilm, or an engine's URL. Repeat."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="ID[=PRICE]", help="Offer this model, at this price. Repeat."),
    ] = None,
    price: Annotated[
        int | None,
        typer.Option(
            "--price", min=0, metavar="N", help="Micro-units per million tokens, where no model says; 0: free."
        ),
    ] = None,
    currency: Annotated[
        str | None, typer.Option("--currency", metavar="NAME", help="Of the prices. Default: USD.")
    ] = None,
    location: Annotated[str | None, typer.Option("--location", metavar="PLACE", help="US or US/california.")] = None,
    capability: Annotated[list[str] | None, typer.Option("--capability", metavar="NAME", help="Repeat.")] = None,
    embeddings: Annotated[
        list[str] | None,
        typer.Option("--embeddings", metavar="ID", help="This model at the URL makes vectors. Repeat."),
    ] = None,
    context_tokens: Annotated[
        int | None, typer.Option("--context-tokens", metavar="N", help="Of the models at the URL, if it does not say.")
    ] = None,
    engine_key_file: Annotated[
        Path | None,
        typer.Option(
            "--engine-key-file",
            metavar="FILE",
            callback=options.no_secret,
            help="Holds the key of the engine at the URL.",
        ),
    ] = None,
    allow_remote_engine: Annotated[
        bool | None, typer.Option("--allow-remote-engine", help="Let prompts leave this machine.")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", metavar="N", help="Of an embedded engine.")] = None,
    max_concurrent: Annotated[int | None, typer.Option("--max-concurrent", metavar="N", help="Jobs at once.")] = None,
    max_queued: Annotated[int | None, typer.Option("--max-queued", metavar="N", help="Jobs that wait.")] = None,
    max_output_tokens: Annotated[
        int | None, typer.Option("--max-output-tokens", metavar="N", help="Of one answer.")
    ] = None,
    drain_s: Annotated[
        int | None, typer.Option("--drain-s", metavar="S", help="How long jobs may go on at the end. Default: 30.")
    ] = None,
    allow_list: Annotated[
        Path | None,
        typer.Option("--allow-list", metavar="FILE", help="Wallets, one a line: no reputation, deposit or work asked."),
    ] = None,
    only_allowed: Annotated[
        bool | None, typer.Option("--only-allowed", help="Serve the wallets of --allow-list and nobody else.")
    ] = None,
    min_client_reputation: Annotated[
        int | None,
        typer.Option("--min-client-reputation", metavar="0..1000", help="Of other wallets; a new one has 100."),
    ] = None,
    deposit_verifier: Annotated[
        str | None,
        typer.Option("--deposit-verifier", metavar="MODULE:NAME", help="Demand a deposit, which this checks."),
    ] = None,
    wallet: options.WalletFile = None,
    password_file: options.PasswordFile = None,
    password_fd: options.PasswordFd = None,
    new_wallet: Annotated[
        bool, typer.Option("--new-wallet", help="Make a wallet, unencrypted, where there is none.")
    ] = False,
    no_wallet: Annotated[bool, typer.Option("--no-wallet", help="Run on the binding alone.")] = False,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", callback=options.no_secret, help="The host's key; made when missing."),
    ] = None,
    listen: options.Listen = None,
    announce: Annotated[
        list[str] | None,
        typer.Option("--announce", metavar="MULTIADDR", help="What others shall dial, behind NAT or a name. Repeat."),
    ] = None,
    bootstrap: options.Bootstrap = None,
    dht: options.EnableDht = None,
    mdns: options.EnableMdns = None,
    protocol_prefix: options.Prefix = None,
    network: options.Network = None,
    host_config: Annotated[
        Path | None, typer.Option("--host-config", metavar="FILE", help="Default: host.toml beside config.toml.")
    ] = None,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Serve models until told to end.

    SIGTERM and Ctrl-C drain: no new jobs, those that run may end, the record is withdrawn. A second one ends at once.
    """
    state = invocation(context)
    loaded = state.load(
        verbose=verbose,
        listen_addresses=listed(listen),
        announce_addresses=listed(announce),
        bootstrap_nodes=listed(bootstrap),
        enable_dht=dht,
        enable_mdns=mdns,
        protocol_prefix=protocol_prefix,
        network=network,
        key_file=key,
        wallet_file=wallet,
        location=location,
    )
    from hostmesh_host.admission import admission_policy, load_verifier
    from hostmesh_host.cli.places import BINDING_FILE_NAME, for_host, host_dir, open_host_wallet
    from hostmesh_host.engines.endpoint import check_engine_url
    from hostmesh_host.offer import offered_models
    from hostmesh_host.offer_store import OFFER_FILE_NAME, OfferStore
    from hostmesh_host.settings import is_url, load_host_settings

    folder = host_dir(loaded)
    stored = OfferStore(folder / OFFER_FILE_NAME).read()
    place = stored.get("location")
    host = load_host_settings(
        {
            "engines": listed(engine),
            "models": listed(model),
            "price": price,
            "currency": currency,
            "embeddings": listed(embeddings),
            "context_tokens": context_tokens,
            "engine_key_file": engine_key_file,
            "allow_remote_engine": allow_remote_engine,
            "threads": threads,
            "capabilities": listed(capability),
            "max_concurrent_jobs": max_concurrent,
            "max_queued_jobs": max_queued,
            "max_output_tokens": max_output_tokens,
            "drain_timeout_s": drain_s,
            "allow_list": allow_list,
            "only_allowed": only_allowed,
            "min_client_reputation": min_client_reputation,
            "deposit_verifier": deposit_verifier,
        },
        config_dir=loaded.paths.config_dir,
        stored={name: stored[name] for name in ("currency", "capabilities") if name in stored},
        file=host_config,
    )
    prices = offered_models(host, stored)
    for url in filter(is_url, host.settings.engines):
        check_engine_url(url, allow_remote=host.settings.allow_remote_engine)
    if place is None or loaded.origins["location"].startswith(("argument", "environment")):
        place = loaded.settings.location
    binding_file = folder / BINDING_FILE_NAME
    signer = open_host_wallet(
        loaded,
        binding_file=binding_file,
        make_new=new_wallet,
        without=no_wallet,
        password_file=password_file,
        password_fd=password_fd,
    )
    engine_key = _read_engine_key(host.settings)
    # Before an engine loads: a list or a plug-in that cannot be used ends it here.
    admission_policy(host.settings)
    verifier = host.settings.deposit_verifier
    from hostmesh_host.daemon import HostDaemon, HostPlan

    plan = HostPlan(
        loaded=for_host(loaded),
        host=host.settings,
        prices=prices,
        host_dir=folder,
        location=None if place is None else str(place),
        wallet=signer,
        binding_file=binding_file,
        engine_key=engine_key,
        deposits=None if verifier is None else load_verifier(verifier),
    )
    _allow_open_files()

    async def serve() -> None:
        await HostDaemon(plan, on_ready=print_json if as_json else _print_ready).run()

    state.interrupts.run(serve)


def _print_ready(ready: Mapping[str, object]) -> None:
    addresses, models = ready["addresses"], ready["models"]
    assert isinstance(addresses, list)
    assert isinstance(models, list)
    print("\n".join(addresses), flush=True)
    names = ", ".join(field(offer["model_id"]) for offer in models)
    print(f"host {ready['peer_id']} serves {names}; Ctrl-C drains and ends it", file=sys.stderr)


def _read_engine_key(host: HostSettings) -> str | None:
    if host.engine_key_file is None:
        return None
    from hostmesh.errors import KeyFileError

    path = host.engine_key_file
    remedy = "give a file that holds the engine's key and nothing else"
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error.strerror}", path=str(path), remedy=remedy) from error
    if stat.S_ISREG(mode) and mode & 0o077:
        raise KeyFileError(f"others can use {path}", path=str(path), remedy=f"chmod 600 {path}")
    key = text.strip()
    if not key or len(text) > MAX_KEY_BYTES or not key.isascii() or not key.decode("ascii").isprintable():
        raise KeyFileError(f"{path} holds no key", path=str(path), remedy=remedy)
    return key.decode("ascii")


def _allow_open_files() -> None:
    """Raise this process's limit of open files to the highest allowed: each connection is one."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
