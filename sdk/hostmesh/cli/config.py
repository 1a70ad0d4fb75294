"""``hostmesh config show``."""

from __future__ import annotations

import json

import typer

from hostmesh.cli.boundary import plain, print_json
from hostmesh.cli.options import AsJson, Verbose, invocation
from hostmesh.cli.terminal import escape
from hostmesh.settings import setting_names

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show the settings.")


@app.command("show")
def show_config(context: typer.Context, as_json: AsJson = False, verbose: Verbose = 0) -> None:
    """Print each setting, its value and where that comes from. No setting holds a secret: keys stand in files."""
    loaded = invocation(context).load(verbose=verbose)
    rows = [(name, plain(getattr(loaded.settings, name)), loaded.origins[name]) for name in setting_names()]
    if as_json:
        print_json(
            {
                "settings": {name: {"value": value, "origin": origin} for name, value, origin in rows},
                "config_dir": str(loaded.paths.config_dir),
                "data_dir": str(loaded.paths.data_dir),
            }
        )
        return
    cells = [(name, escape(json.dumps(value, ensure_ascii=False)), escape(origin)) for name, value, origin in rows]
    widths = [max(len(row[column]) for row in cells) for column in (0, 1)]
    for name, value, origin in cells:
        print(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin}")
    print(f"\nconfiguration  {loaded.paths.config_dir}\ndata           {loaded.paths.data_dir}")
