"""docs/configuration.md says what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

from hostmesh.cli.logs import AREAS, FOREIGN
from hostmesh.settings import default_of, environment_names, load_settings, setting_names

PAGE = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text(encoding="utf-8")
ROWS = {
    name: (variable.strip("` "), default.strip("` "))
    for name, variable, default in re.findall(r"^\| `(\w+)` \|([^|]*)\|([^|]*)\|", PAGE, flags=re.MULTILINE)
}


def test_every_setting_stands_there_with_its_variable_and_default() -> None:
    assert tuple(ROWS) == setting_names()
    for name, (variable, default) in ROWS.items():
        assert [variable] == list(environment_names(name)[1:]) or variable == ""
        value = default_of(name)
        shown = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
        assert default == shown, name


def test_the_example_file_is_accepted(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    file = tmp_path / "config.toml"
    file.write_text(example, encoding="utf-8")
    loaded = load_settings({}, {"HOSTMESH_HOME": str(tmp_path)})
    assert loaded.settings.max_connections == 25
    assert loaded.settings.wallet_file == tmp_path / "wallet.json"


def test_every_log_area_stands_there() -> None:
    assert all(f"`{area}`" in PAGE for area in (*AREAS, *FOREIGN))
