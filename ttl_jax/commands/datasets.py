"""The data set presets."""

from __future__ import annotations

import json
from typing import Any

from ttl_jax.commands.arguments import Parser, field_help
from ttl_jax.commands.printing import print_rows
from ttl_jax.config import RunConfig
from ttl_jax.config.fields import leaves

SUMMARY = "the data set presets"

HELP = """usage: ttl-jax datasets [NAME] [--json]

Lists the data sets that are known by name; with NAME, its licence and citation
and the config fields that it sets. Files are looked for under data_dir.

  --json                   for programs

examples:
  ttl-jax datasets
  ttl-jax datasets ham10000
"""


def run(arguments: list[str]) -> None:
    """Prints the list, or explains one of its entries; or writes either as JSON."""
    from ttl_jax.data.published import presets

    parser = Parser("datasets")
    parser.add_argument("name", nargs="?")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    rows = _datasets()
    if given.name is None and given.json:
        print_rows(rows, json_wanted=True)
    elif given.name is None:
        print_rows([{key: row[key] for key in ("data set", "group", "metric", "licence")} for row in rows])
        print("`ttl-jax datasets NAME` adds the citation, what to know of it, and the fields that it sets")
    else:
        values = presets.fields(given.name, presets.GIVEN["data_dir"])
        (row,) = [row for row in rows if row["data set"] == given.name]
        if given.json:
            print(json.dumps({**row, "fields": values}, indent=1))
            return
        print("\n".join(f"{key}: {value}" for key, value in row.items() if value))
        known = {path: about for path, about, _ in leaves(RunConfig())}
        for path, value in values.items():
            print("\n".join(field_help(f"--config.{path}", known[path], value)))


def _datasets() -> list[dict[str, Any]]:
    from ttl_jax.data.published import presets

    return [
        {
            "data set": name,
            "group": preset.group or "none named",
            "metric": preset.metric,
            "licence": preset.licence,
            "citation": preset.citation,
            "note": preset.note,
        }
        for name, preset in presets.PRESETS.items()
    ]
