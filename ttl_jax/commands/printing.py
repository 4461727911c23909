"""Printing of a command's rows: a table, or JSON where --json asks for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ttl_jax.system import terminal


def print_rows(rows: Sequence[dict[str, Any]], json_wanted: bool = False) -> None:
    """Prints rows that have the same titles."""
    if json_wanted:
        print(json.dumps(rows, indent=1))
        return
    out = terminal.console(elsewhere=140)
    out.print(terminal.table(rows, out.width))
