"""``hostmesh run``: find a host, open a session, stream the answer."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hostmesh.cli import options
from hostmesh.cli.boundary import print_json
from hostmesh.cli.groups import CriteriaOptions, NodeOptions, grouped
from hostmesh.cli.options import invocation
from hostmesh.cli.terminal import field
from hostmesh.cli.wallet_files import open_wallet_file, wallet_path
from hostmesh.errors import UsageError

if TYPE_CHECKING:
    from hostmesh.identity.wallet import Wallet
    from hostmesh.settings import LoadedSettings

MAX_PROMPT_BYTES = 4 * 1024 * 1024
"""Most that is read of a prompt file. What a host takes is less; it says so itself."""

_Prompt = Annotated[str | None, typer.Argument(metavar="[PROMPT]", help="The prompt; or use --prompt-file.")]
_PromptFile = Annotated[
    str | None, typer.Option("--prompt-file", metavar="FILE", help="Read the prompt from a file; - is standard input.")
]
_Limit = Annotated[
    int, typer.Option("--limit-micros", min=0, metavar="N", help="Most that the job may cost, in micro-units.")
]
_Slice = Annotated[
    int | None,
    typer.Option("--slice-micros", min=0, metavar="N", help="Most that is owed before a receipt of it is signed."),
]
_Delegation = Annotated[
    Path | None,
    typer.Option(
        "--delegation",
        metavar="FILE",
        callback=options.no_secret,
        help="Spend in the name of who signed this; its key signs, the .key file beside it or --wallet.",
    ),
]
_JobTimeout = Annotated[
    float | None, typer.Option("--job-timeout-s", min=0.01, metavar="S", help="Seconds for the answer.")
]


@grouped
def run(
    context: typer.Context,
    prompt: _Prompt = None,
    *,
    prompt_file: _PromptFile = None,
    system: Annotated[str | None, typer.Option("--system", metavar="TEXT", help="System prompt.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", metavar="0..2")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, metavar="N", help="Of the answer.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="For an answer that can be repeated.")] = None,
    limit_micros: _Limit = 10_000,
    slice_micros: _Slice = None,
    criteria: CriteriaOptions,
    delegation: _Delegation = None,
    wallet: options.WalletFile = None,
    password_file: options.PasswordFile = None,
    password_fd: options.PasswordFd = None,
    node: NodeOptions,
    timeout_s: options.TimeoutS = 10.0,
    job_timeout_s: _JobTimeout = None,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Run a prompt on the best host that meets the criteria, and stream its answer.

    The host reads the prompt and its answer; peers of the DHT learn which model you ask for. Ctrl-C cancels the job on
    the host. Without a wallet file a fresh wallet signs, which is kept nowhere.
    """
    state = invocation(context)
    if delegation is not None:
        wallet, criteria = delegated(delegation, wallet, criteria)
    loaded = state.load(verbose=verbose, wallet_file=wallet, **node.settings())
    text = read_prompt(prompt, prompt_file)
    from hostmesh.cli.answer import AnswerWriter, answer, print_report
    from hostmesh.cli.client import client_sdk
    from hostmesh.cli.privacy import tell_once
    from hostmesh.discovery.terms import ModelKind

    wanted, ranking = criteria.criteria(ModelKind.CHAT), criteria.ranking()
    parameters = {name: value for name, value in (("temperature", temperature), ("seed", seed)) if value is not None}
    signer = open_wallet(loaded, password_file, password_fd)

    async def find_and_run() -> None:
        async with client_sdk(loaded, signer, delegation_file=delegation) as sdk:
            tell_once(loaded, is_quiet=as_json)
            choice = await sdk.get_discovery_manager().find_host(wanted, strategy=ranking, timeout_s=timeout_s)
            if not as_json:
                price = "unpriced" if choice.price is None else str(choice.price)
                print(f"host {choice.peer_id}, {field(choice.model_id)}, {field(price)}", file=sys.stderr)
            report = await answer(
                sdk,
                choice,
                prompt=text,
                system_prompt=system,
                parameters=parameters,
                max_output_tokens=max_tokens,
                spending_limit_micros=limit_micros,
                slice_micros=slice_micros,
                timeout_s=job_timeout_s,
                writer=AnswerWriter(is_quiet=as_json),
            )
        if as_json:
            print_json({"choice": choice.to_dict(), **report.to_dict()})
        else:
            print_report(report)

    state.interrupts.run(find_and_run)


def delegated(delegation: Path, wallet: Path | None, criteria: CriteriaOptions) -> tuple[Path, CriteriaOptions]:
    """Return the session key's file and what to look for under a delegation.

    What the command line leaves open is what the delegation allows: its hosts, its models.

    Raises:
        KeyFileError: the file holds no delegation.
    """
    from hostmesh.cli.delegation import hosts_of, key_file_of
    from hostmesh.identity.delegation import load_delegation

    allowed = load_delegation(delegation)
    include = criteria.include or list(hosts_of(allowed))
    any_model = criteria.any_model if criteria.model or criteria.any_model else list(allowed.model_ids)
    return wallet or key_file_of(delegation), replace(criteria, include=include, any_model=any_model)


def read_prompt(prompt: str | None, file: str | None) -> str:
    """Return the prompt from the argument, a file or standard input.

    Raises:
        UsageError: none or both were given, or the file cannot be read or is no text.
    """
    if (prompt is None) == (file is None):
        raise UsageError("give a prompt, or --prompt-file", remedy='hostmesh run "What is a peer?"')
    if file is None:
        assert prompt is not None
        return prompt
    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_PROMPT_BYTES + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(MAX_PROMPT_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}", remedy="name a file that is readable") from error
    if len(data) > MAX_PROMPT_BYTES:
        raise UsageError("the prompt is longer than 4 MiB", remedy="shorten it")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text", remedy="give a text file") from error


def open_wallet(loaded: LoadedSettings, password_file: Path | None, password_fd: int | None) -> Wallet:
    """Return the wallet that signs: the configured one, or a fresh one where none is configured and none is there.

    Blocks: a keystore takes a second, and a prompt as long as the user does. So it runs before the node starts.

    Raises:
        KeyFileError: the file cannot be used.
    """
    from hostmesh.cli.client import fresh_wallet
    from hostmesh.cli.password import password_source

    password_source(password_file, password_fd)  # two are wrong also where no file needs one
    if loaded.settings.wallet_file is None and not wallet_path(loaded).exists():
        return fresh_wallet()
    return open_wallet_file(loaded, password_file, password_fd)
