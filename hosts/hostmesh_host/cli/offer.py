"""``hostmesh-host register``, ``update``, ``withdraw`` and ``status``: what a host that runs says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hostmesh.cli import options
from hostmesh.cli.boundary import print_json
from hostmesh.cli.options import invocation
from hostmesh.cli.terminal import field
from hostmesh.errors import NodeNotRunningError, UsageError

_Models = Annotated[
    list[str] | None, typer.Option("--model", metavar="ID=PRICE", help="Offer this model at this price. Repeat.")
]
_Currency = Annotated[str | None, typer.Option("--currency", metavar="NAME", help="Of all prices.")]
_Location = Annotated[str | None, typer.Option("--location", metavar="PLACE", help="US or US/california.")]
_Capabilities = Annotated[
    list[str] | None, typer.Option("--capability", metavar="NAME", help="Repeat; replaces what was offered.")
]


def register(
    context: typer.Context,
    model: _Models = None,
    currency: _Currency = None,
    location: _Location = None,
    capability: _Capabilities = None,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Publish the record of the host that runs: after withdraw, or with changes."""
    folder = _folder(context, verbose)
    change = _change(model, None, currency, location, capability)
    _tell(context, folder, {"do": "announce", "change": change}, as_json=as_json)


def update(
    context: typer.Context,
    model: _Models = None,
    remove_model: Annotated[
        list[str] | None, typer.Option("--remove-model", metavar="ID", help="Offer it no more. Repeat.")
    ] = None,
    currency: _Currency = None,
    location: _Location = None,
    capability: _Capabilities = None,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Change the offer of the host that runs. It is kept for the next start. Quotes given stand."""
    folder = _folder(context, verbose)
    change = _change(model, remove_model, currency, location, capability)
    if not any(change.values()):
        raise UsageError(
            "nothing to change", remedy="give --model, --remove-model, --currency, --location or --capability"
        )
    try:
        _tell(context, folder, {"do": "announce", "change": change}, as_json=as_json)
    except NodeNotRunningError as error:
        from hostmesh_host.offer import OfferChange, describe_host, merge_stored
        from hostmesh_host.offer_store import OFFER_FILE_NAME, OfferStore

        store = OfferStore(folder / OFFER_FILE_NAME)
        asked = OfferChange.from_dict(change)
        describe_host(
            {"x": 0}, currency=asked.currency or "USD", location=asked.location, capabilities=asked.capabilities or ()
        )
        store.write(merge_stored(store.read(), asked))
        raise NodeNotRunningError(
            f"{error.message}; the change is kept for the next start", remedy=error.remedy
        ) from error


def withdraw(context: typer.Context, as_json: options.AsJson = False, verbose: options.Verbose = 0) -> None:
    """Take back the record of the host that runs: clients find it no more. Jobs go on; register publishes it again."""
    _tell(context, _folder(context, verbose), {"do": "withdraw"}, as_json=as_json)


def status(context: typer.Context, as_json: options.AsJson = False, verbose: options.Verbose = 0) -> None:
    """Show what the host that runs offers and does."""
    _tell(context, _folder(context, verbose), {"do": "status"}, as_json=as_json)


def _folder(context: typer.Context, verbose: int) -> Path:
    from hostmesh_host.cli.places import host_dir

    return host_dir(invocation(context).load(verbose=verbose))


def _change(
    models: list[str] | None,
    removed: list[str] | None,
    currency: str | None,
    location: str | None,
    capabilities: list[str] | None,
) -> dict[str, Any]:
    from hostmesh_host.settings import parse_model

    prices = dict(parse_model(text) for text in models or ())
    unpriced = [model_id for model_id, price in prices.items() if price is None]
    if unpriced:
        raise UsageError(f"no price for {unpriced[0]!r}", remedy=f"say --model {unpriced[0]}=PRICE; 0 is free")
    return {
        "models": prices or None,
        "remove_models": list(removed or ()),
        "currency": currency,
        "location": location,
        "capabilities": capabilities,
    }


def _tell(context: typer.Context, folder: Path, request: Mapping[str, object], *, as_json: bool) -> None:
    from hostmesh_host.control import ask_daemon

    async def tell() -> None:
        answer = await ask_daemon(folder, request)
        if as_json:
            print_json(answer)
        else:
            _show(answer)

    invocation(context).interrupts.run(tell)


def _show(answer: Mapping[str, Any]) -> None:
    record, jobs = answer["record"], answer["jobs"]
    print(f"host      {answer['peer_id']} (pid {answer['pid']})")
    if record is None:
        print("record    none")
    else:
        print(f"record    {record['state']}, sequence {record['sequence']}, operator {record['operator']}")
        for address in record["addresses"]:
            print(f"address   {field(address)}")
        print(f"reached   {record['reachability'] or 'not known'}")
        if record["location"] is not None:
            print(f"location  {field(record['location'])}")
        for offer in record["models"]:
            price = offer["price"]
            cost = "unpriced" if price is None else f"{price['price_micros_per_mtok']} micro-{price['currency']}/Mtok"
            ready = "ready" if answer["engine_ready"].get(offer["model_id"]) else "not ready"
            rate = offer["output_millitokens_per_s"]
            speed = "" if rate is None else f", {rate / 1000:g} tokens/s"
            print(f"model     {field(offer['model_id'])}, {cost}, {ready}{speed}")
    print(f"sessions  {_admission(answer['admission'])}")
    print(
        f"jobs      {jobs['active']} of {jobs['max_concurrent']} running, "
        f"{jobs['queued']} of {jobs['max_queued']} waiting, {jobs['accepted']} accepted since the start"
    )


def _admission(told: Mapping[str, Any]) -> str:
    listed = told["allowed_wallets"]
    words = [f"for the {listed} wallets of the list" if told["only_allowed"] else "for everybody"]
    if not told["only_allowed"]:
        if told["min_client_reputation"]:
            words.append(f"of a reputation of {told['min_client_reputation']}")
        if told["deposit"]:
            words.append("with a deposit")
        if listed:
            words.append(f"and for {listed} wallets of the list")
    if told["work_bits"]:
        words.append(f"(under attack: {told['work_bits']} bits of work)")
    return " ".join(words)
