"""The data set presets."""

from __future__ import annotations

from typing import Any

from ttl_jax.commands.arguments import field_help
from ttl_jax.commands.printing import list_rows
from ttl_jax.config import RunConfig
from ttl_jax.config.fields import leaves

SUMMARY = "the data set presets"

HELP = """usage: python -m ttl_jax datasets [--json | NAME]

The data set presets; with NAME, the config fields that one sets.

examples:
  python -m ttl_jax datasets --json
  python -m ttl_jax datasets ham10000
"""


def run(arguments: list[str]) -> None:
    """Prints the list, writes it as JSON, or explains one of its entries."""
    if len(arguments) == 1 and not arguments[0].startswith("-"):
        print("\n".join(_fields(arguments[0])))
    else:
        list_rows(_datasets(), arguments)


def _fields(name: str) -> list[str]:
    """The fields that a preset sets, with their explanations."""
    from ttl_jax.data.published import presets

    values = presets.fields(name, presets.GIVEN["data_dir"])
    known = {path: about for path, about, _ in leaves(RunConfig())}
    return [
        line for path, value in values.items() for line in field_help(f"--config.{path}", known[path], value)
    ]


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
