"""Printing of a command's rows: a table, or JSON where --json asks for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from ttl_jax.errors import UserError


def print_rows(found: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*found[0])
    for row in found:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    Console(highlight=False, width=None if sys.stdout.isatty() else 140).print(table)


def list_rows(rows: Sequence[dict[str, Any]], arguments: list[str]) -> None:
    """Prints a list as a table, or as JSON.

    Raises:
        UserError: an argument that is not --json.
    """
    unknown = [word for word in arguments if word != "--json"]
    if unknown:
        raise UserError(f"argument {unknown[0]!r} is not understood; this list takes --json only")
    if "--json" in arguments:
        print(json.dumps(rows, indent=1))
    else:
        print_rows(rows)
