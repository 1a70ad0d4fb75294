"""``hostmesh wallet delegate`` and ``wallet revoke``: a session key that spends in a wallet's name, and its end."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hostmesh.cli import options
from hostmesh.cli.boundary import EXIT_NETWORK, EXIT_REFUSED, print_json
from hostmesh.cli.groups import NodeOptions, grouped
from hostmesh.cli.options import invocation
from hostmesh.cli.terminal import field
from hostmesh.cli.wallet_files import open_wallet_file, refuse_existing
from hostmesh.errors import KeyFileError, UsageError

if TYPE_CHECKING:
    from hostmesh.net.peer_id import PeerId
    from hostmesh.sessions.client_revocations import RevocationOutcome
    from hostmesh.v1 import session_pb2 as pb

_Owner = Annotated[
    Path | None,
    typer.Option("--wallet", metavar="FILE", callback=options.no_secret, help="The owner's. Default: as configured."),
]


def delegate(
    context: typer.Context,
    *,
    model: Annotated[list[str], typer.Option("--model", metavar="ID", help="Exact id of a model to use. Repeat.")],
    cap: Annotated[
        list[str],
        typer.Option("--cap", metavar="HOST=MICROS", help="A host's peer id, and the most to spend there. Repeat."),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", callback=options.no_secret, help="Write the delegation here.")
    ],
    session_key: Annotated[
        Path | None,
        typer.Option(
            "--session-key",
            metavar="FILE",
            callback=options.no_secret,
            help="Write the key here. Default: beside the delegation, as .key.",
        ),
    ] = None,
    currency: Annotated[str, typer.Option("--currency", metavar="NAME", help="Of the caps.")] = "USD",
    lifetime_s: Annotated[
        int, typer.Option("--lifetime-s", min=1, max=86_400, metavar="S", help="Seconds until it ends, a day at most.")
    ] = 86_400,
    wallet: _Owner = None,
    password_file: options.PasswordFile = None,
    password_fd: options.PasswordFd = None,
    network: options.Network = None,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Make a session key that spends in the wallet's name: on these hosts, on these models, within caps, for a day.

    The sum of the caps is the most that whoever gets hold of the key can make the wallet owe. Offline; a file that
    exists is never overwritten.
    """
    loaded = invocation(context).load(verbose=verbose, wallet_file=wallet, network=network)
    from hostmesh.identity.address import address_to_text
    from hostmesh.identity.delegation import digest_of_delegation, save_delegation, sign_delegation
    from hostmesh.identity.keystore import create_wallet_file
    from hostmesh.identity.wallet import Wallet
    from hostmesh.system import System

    caps = parse_caps(cap)
    key_file = session_key or key_file_of(out)
    if key_file == out:
        raise UsageError(
            "the delegation and its key are two files", remedy="give --session-key another name than --out"
        )
    for path in (out, key_file):  # before anybody types a password
        refuse_existing(path)
    system = System()
    key = Wallet.generate(system.random_bytes)
    signed = sign_delegation(
        open_wallet_file(loaded, password_file, password_fd),
        key.address_bytes,
        model_ids=model,
        host_caps=caps,
        currency=currency,
        network=loaded.settings.network,
        now=system.unix_s(),
        nonce=system.random_bytes(32),
        lifetime_s=lifetime_s,
    )
    create_wallet_file(key_file, password=None, wallet=key)
    try:
        save_delegation(out, signed)
    except KeyFileError:
        # Without the owner's word the key is of no use, and in the way of the next attempt.
        with suppress(OSError):
            key_file.unlink()
        raise
    most = sum(caps.values())
    if as_json:
        print_json(
            {
                "owner": address_to_text(signed.owner),
                "delegate": key.address,
                "digest": digest_of_delegation(signed, loaded.settings.network).hex(),
                "model_ids": list(signed.model_ids),
                "caps_micros": caps,
                "most_micros": most,
                "currency": currency,
                "expires_at_unix_s": signed.expires_at_unix_s,
                "delegation_file": str(out),
                "key_file": str(key_file),
            }
        )
        return
    print(f"{key.address} may spend {most} micro-{field(currency)} in all on {len(caps)} hosts, for {lifetime_s} s")
    print(f"delegation in {out}, key in {key_file}")


@grouped
def revoke(
    context: typer.Context,
    delegation_file: Annotated[Path, typer.Argument(metavar="DELEGATION_FILE", help="As wallet delegate wrote it.")],
    *,
    wallet: _Owner = None,
    password_file: options.PasswordFile = None,
    password_fd: options.PasswordFd = None,
    node: NodeOptions,
    timeout_s: options.TimeoutS = 10.0,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Take a delegation back: its owner signs, and every host that it names is told, and ends its sessions.

    A host that is not reached is told by the next command that runs a node here, or by this one again, until the
    delegation has ended by itself. Until it hears of it, the delegation holds there.
    """
    state = invocation(context)
    loaded = state.load(verbose=verbose, wallet_file=wallet, **node.settings())
    from hostmesh.cli.client import client_sdk
    from hostmesh.identity.delegation import load_delegation
    from hostmesh.system import System

    delegation = load_delegation(delegation_file)
    if delegation.expires_at_unix_s <= System().unix_s():
        raise UsageError("the delegation has ended by itself", remedy="there is nothing to take back")
    owner = open_wallet_file(loaded, password_file, password_fd)
    if owner.address_bytes != delegation.owner:
        from hostmesh.identity.address import address_to_text

        raise UsageError(
            f"the delegation is of {address_to_text(delegation.owner)}, and this wallet is {owner.address}",
            remedy="give the owner's wallet with --wallet",
        )
    outcomes: list[RevocationOutcome] = []

    async def push() -> None:
        from hostmesh.discovery.criteria import HostCriteria

        async with client_sdk(loaded, owner) as sdk:
            named = hosts_of(delegation)
            # Looking for them tells where they are; one that is not found may be known from before.
            await sdk.get_discovery_manager().explain(HostCriteria(include=named), timeout_s=timeout_s)
            outcomes.extend(await sdk.get_session_manager().revoke(delegation))

    state.interrupts.run(push)
    if as_json:
        print_json({"hosts": [_outcome_object(outcome) for outcome in outcomes]})
    else:
        for outcome in outcomes:
            print(_outcome_line(outcome))
    code = exit_code_of(outcomes)
    if code:
        raise typer.Exit(code)


def parse_caps(texts: Sequence[str]) -> dict[PeerId, int]:
    """Return what may be spent on each host, micro-units by peer id.

    Raises:
        UsageError: no HOST=MICROS, or a host twice.
        InvalidAddressError: no peer id.

    >>> parse_caps(["12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp=250"])
    {'12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp': 250}
    """
    from hostmesh.cli.peer import parse_peer

    caps: dict[PeerId, int] = {}
    for text in texts:
        host, _, micros = text.rpartition("=")
        if not host or not (micros.isascii() and micros.isdecimal()) or len(micros) > _MAX_DIGITS:
            raise UsageError(
                f"--cap {text} is no HOST=MICROS", remedy="a peer id, =, and whole micro-units: 12D3KooW...=1000000"
            )
        peer_id = parse_peer(host).peer_id
        if peer_id in caps:
            raise UsageError(f"--cap names {peer_id} twice", remedy="give one cap for each host")
        caps[peer_id] = int(micros)
    return caps


_MAX_DIGITS = 20
"""Of the largest amount, 2**64 - 1."""


def key_file_of(delegation_file: Path) -> Path:
    """Return where the key of a delegation is kept where nobody says otherwise: beside it.

    >>> key_file_of(Path("keys/agent.json"))
    PosixPath('keys/agent.key')
    """
    return delegation_file.with_suffix(".key")


def hosts_of(delegation: pb.Delegation) -> tuple[PeerId, ...]:
    """Return the hosts that a delegation names."""
    from hostmesh.net.peer_id import peer_id_from_bytes

    return tuple(peer_id_from_bytes(cap.host_peer_id) for cap in delegation.host_caps)


def exit_code_of(outcomes: Sequence[RevocationOutcome]) -> int:
    """Return 0 where every host has it, 5 where one is still to be told, 7 where one refused it for good."""
    if any(outcome.is_pending for outcome in outcomes):
        return EXIT_NETWORK
    return 0 if all(outcome.is_delivered for outcome in outcomes) else EXIT_REFUSED


def _outcome_line(outcome: RevocationOutcome) -> str:
    if outcome.is_delivered:
        return f"{outcome.peer_id}  revoked, {outcome.ended_sessions} open sessions ended"
    later = "is told later" if outcome.is_pending else "refused it for good"
    return f"{outcome.peer_id}  not revoked ({field(outcome.detail)}), {later}"


def _outcome_object(outcome: RevocationOutcome) -> dict[str, object]:
    return {
        "peer_id": outcome.peer_id,
        "is_delivered": outcome.is_delivered,
        "is_pending": outcome.is_pending,
        "ended_sessions": outcome.ended_sessions,
        "detail": outcome.detail,
    }
