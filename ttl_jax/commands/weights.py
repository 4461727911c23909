"""List the pretrained weights and their sources."""

from __future__ import annotations

from typing import Any

from ttl_jax.commands.printing import list_rows

SUMMARY = "where pretrained weights come from"

HELP = """usage: python -m ttl_jax weights [--json]

example:
  python -m ttl_jax weights --json
"""


def run(arguments: list[str]) -> None:
    """Prints the list, or writes it as JSON."""
    list_rows(_weights(), arguments)


def _weights() -> list[dict[str, Any]]:
    from ttl_jax import weights

    return weights.listing()
