"""Options that several commands share, and the state that a command line sets up."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from hostmesh.cli.signals import Interrupts
from hostmesh.errors import UsageError
from hostmesh.settings import LoadedSettings, load_settings

_LOOKS_SECRET = re.compile(r"(0[xX])?[0-9a-fA-F]{64}|[a-z]+([ ,][a-z]+){11,23}")
"""A private key, or a phrase of 12 to 24 words."""


def no_secret(value: Path | None) -> Path | None:
    """Refuse a key or a phrase that stands where the file that holds it belongs.

    Raises:
        UsageError: it looks like one. It is not repeated: errors and logs go further than command lines.
    """
    if value is not None and _LOOKS_SECRET.fullmatch(str(value)):
        raise UsageError(
            "a key or phrase stands on the command line, where every process can read it",
            remedy="give the file that holds it; use this one no more",
        )
    return value


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output; errors too.")]
Verbose = Annotated[
    int,
    typer.Option("-v", "--verbose", count=True, show_default=False, help="Log more; -vv: everything, and tracebacks."),
]

Watch = Annotated[bool, typer.Option("--watch", help="Go on, and print who joins, changes and leaves, until Ctrl-C.")]

Bootstrap = Annotated[
    list[str] | None,
    typer.Option("--bootstrap", metavar="MULTIADDR", help="Join the network here: /ip4/.../tcp/.../p2p/ID. Repeat."),
]
Listen = Annotated[list[str] | None, typer.Option("--listen", metavar="MULTIADDR", help="Listen here. Repeat.")]
EnableDht = Annotated[bool | None, typer.Option("--dht/--no-dht", help="Look for hosts in the DHT.")]
EnableMdns = Annotated[bool | None, typer.Option("--mdns/--no-mdns", help="Look for hosts on the local network.")]
Prefix = Annotated[str | None, typer.Option("--protocol-prefix", metavar="PREFIX", help="Start of protocol ids.")]
Network = Annotated[str | None, typer.Option("--network", metavar="NAME", help="Name of the network.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key", metavar="FILE", callback=no_secret, help="The node's key; made when missing. Default: a fresh key."
    ),
]

Models = Annotated[list[str] | None, typer.Option("--model", metavar="ID", help="Exact model id. Repeat: all of them.")]
MinReputation = Annotated[int | None, typer.Option("--min-reputation", metavar="0..1000", help="Earned with you.")]
MaxLatencyMs = Annotated[float | None, typer.Option("--max-latency-ms", metavar="MS", help="As measured from here.")]
MinUptimeS = Annotated[int | None, typer.Option("--min-uptime-s", metavar="S", help="Time since the host started.")]
Location = Annotated[str | None, typer.Option("--location", metavar="PLACE", help="US or US/california; claimed.")]
MaxPrice = Annotated[
    int | None,
    typer.Option("--max-price-micros", metavar="N", help="Micro-units per million tokens, prompt and answer together."),
]
Currency = Annotated[str, typer.Option("--currency", metavar="NAME", help="Currency of prices and limits.")]
Capabilities = Annotated[list[str] | None, typer.Option("--capability", metavar="NAME", help="Repeat: all of them.")]
AcceptUnmeasured = Annotated[bool, typer.Option("--accept-unmeasured", help="Keep hosts of unknown latency, last.")]
AnyModels = Annotated[
    list[str] | None, typer.Option("--any-model", metavar="ID", help="Exact model id. Repeat: one of them.")
]
Kind = Annotated[str | None, typer.Option("--kind", metavar="chat|embedding", help="What the model must do.")]
Quantisation = Annotated[
    list[str] | None, typer.Option("--quantisation", metavar="NAME", help="Such as Q4_K_M. Repeat: one of them.")
]
MinContextTokens = Annotated[
    int | None, typer.Option("--min-context-tokens", metavar="N", help="Context length of the model; claimed.")
]
MinVramMib = Annotated[
    int | None, typer.Option("--min-vram-mib", metavar="N", help="Memory of all GPUs together; claimed.")
]
StrictUptime = Annotated[
    bool, typer.Option("--strict-uptime", help="Count only the uptime that was observed from here.")
]
Protocols = Annotated[
    list[str] | None,
    typer.Option("--protocol", metavar="ID", help="/hostmesh/job/1.1.0 or later, or .../1.0.0..1.4.0. Repeat: all."),
]
MinFreeSlots = Annotated[int | None, typer.Option("--min-free-slots", metavar="N", help="Jobs that start at once.")]
PathName = Annotated[str, typer.Option("--path", metavar="any|direct", help="direct: not through a relay.")]
Include = Annotated[
    list[str] | None, typer.Option("--include", metavar="ID", help="Peer id or wallet: only these. Repeat.")
]
Exclude = Annotated[
    list[str] | None, typer.Option("--exclude", metavar="ID", help="Peer id or wallet: none of these. Repeat.")
]
Prefer = Annotated[
    list[str] | None, typer.Option("--prefer", metavar="ID", help="Peer id or wallet: these first. Repeat.")
]
StrategyName = Annotated[
    str,
    typer.Option(
        "--strategy",
        metavar="auto|cheapest|fastest|reliable|specific",
        help="Which is best; specific: the one host that --include names.",
    ),
]
MaxPerOperator = Annotated[
    int | None, typer.Option("--max-per-operator", min=1, metavar="N", help="Show at most N hosts of one wallet.")
]
MaxPerSubnet = Annotated[
    int | None, typer.Option("--max-per-subnet", min=1, metavar="N", help="Show at most N hosts of one /24 or /48.")
]
TimeoutS = Annotated[float, typer.Option("--timeout-s", min=0.01, metavar="S", help="Seconds for finding.")]

WalletFile = Annotated[Path | None, typer.Option("--wallet", metavar="FILE", callback=no_secret, help="Wallet file.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option("--password-file", metavar="FILE", callback=no_secret, help="Read the password here (mode 0600)."),
]
PasswordFd = Annotated[
    int | None, typer.Option("--password-fd", metavar="N", help="Read the password from this descriptor.")
]


@dataclass(kw_only=True)
class Invocation:
    """What stands before the command on the command line, and what every command needs."""

    interrupts: Interrupts
    owns_process: bool = False
    """Whether the command is all that this process does, so that it may execute itself anew."""
    verbosity: int = 0
    log: str | None = None
    default_log: str | None = None
    """The log filter where nobody gave one; None: that of the settings."""
    log_json: bool | None = None
    config_file: Path | None = None

    def load(self, *, verbose: int = 0, home: Path | None = None, **overrides: object) -> LoadedSettings:
        """Return the settings and start logging as they say.

        Args:
            verbose: number of ``-v`` after the command.
            home: stands in for the user's own files: neither their settings nor their keys are touched.
            overrides: settings from options; None = not given.
        """
        from hostmesh.cli.logs import configure_logging, parse_filter

        given = {"log": self.log, "log_json": self.log_json, **overrides}
        env = dict(os.environ)
        if home is not None:
            for name in ("HOSTMESH_CONFIG", "HOSTMESH_KEY_FILE", "HOSTMESH_WALLET_FILE"):
                env.pop(name, None)
            env["HOSTMESH_HOME"] = str(home)
        loaded = load_settings(given, env, self.config_file)
        source = loaded.origins["log"]
        text = self.default_log if self.default_log and source == "default" else loaded.settings.log
        chosen = parse_filter(text, verbosity=max(verbose, self.verbosity), source=source)
        configure_logging(chosen, as_json=loaded.settings.log_json)
        return loaded


def invocation(context: typer.Context) -> Invocation:
    """Return the invocation of a command's context."""
    found = context.find_object(Invocation)
    assert found is not None, "main() puts it there"
    return found


def listed(values: list[str] | None) -> list[str] | None:
    """Return what was given by a repeatable option, or None when it was not."""
    return values or None
