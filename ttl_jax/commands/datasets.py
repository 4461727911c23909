"""The data set presets."""

from __future__ import annotations

from typing import Any

from ttl_jax.commands.printing import list_rows

SUMMARY = "the data set presets"

HELP = """usage: python -m ttl_jax datasets [--json]

example:
  python -m ttl_jax datasets --json
"""


def run(arguments: list[str]) -> None:
    """Prints the list, or writes it as JSON."""
    list_rows(_datasets(), arguments)


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
