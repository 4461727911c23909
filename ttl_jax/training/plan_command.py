"""`python -m ttl_jax strategies KEY --model NAME`: the plan as a table, as JSON, and as a picture."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ttl_jax.errors import UserError
from ttl_jax.training.plan import Plan, plan

FORMATS = (".png", ".svg", ".pdf")


class _Parser(argparse.ArgumentParser):
    """Faults become one sentence and exit status 2, as everywhere in the program."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `python -m ttl_jax strategies --help`")


def show(arguments: Sequence[str]) -> None:
    """Prints a strategy's plan on a network, and writes its picture where asked to.

    Raises:
        UserError: arguments, a strategy or a network that are not understood.
    """
    parser = _Parser(prog="strategies", add_help=False, allow_abbrev=False)
    parser.add_argument("strategy")
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--out", type=Path, action="append", default=[])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(list(arguments))
    for path in given.out:
        if path.suffix not in FORMATS:
            raise UserError(f"--out={path}: the picture is written as one of {', '.join(FORMATS)}")
    found = plan(given.strategy, given.model, given.classes, given.image_size, given.batch)
    if given.json:
        print(json.dumps(dataclasses.asdict(found), indent=1))
    else:
        print_plan(found)
    if given.out:
        from ttl_jax.training.plan_picture import draw

        draw(found, tuple(given.out))
        print(*(f"picture: {path}" for path in given.out), sep="\n", file=sys.stderr)


def print_plan(found: Plan) -> None:
    """Prints the phases, their labels and what they cost."""
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 130)
    console.print(
        f"{found.strategy} on {found.model}: {found.parameters:,} parameters; "
        f"a step of {found.batch} images at {found.image_size} px"
    )
    if found.dropped:
        console.print(f"dropped: {', '.join(found.dropped)}")
    for start in dict.fromkeys(found.fresh.values()):
        units = [unit for unit, how in found.fresh.items() if how == start]
        console.print(f"start {start}: {', '.join(units)}")
    table = Table(
        "phase", "share of steps", "label", "learning rate", "leaves", "parameters",
        "BatchNorm statistics", "GFLOP a step", "optimizer MB",
    )  # fmt: skip
    for phase in found.phases:
        for number, row in enumerate(phase.rows):
            first = number == 0
            table.add_row(
                phase.name if first else "",
                f"{phase.share:.0%}" if first else "",
                row.label,
                _rate(row.label, phase.measured, [u.rate for u in phase.units if row.label in u.labels]),
                str(row.leaves),
                f"{row.parameters:,}",
                row.statistics,
                f"{(phase.flops or 0.0) / 1e9:,.4g}" if first else "",
                f"{phase.optimizer_bytes / 1e6:,.4g}" if first else "",
            )
    console.print(table)


def _rate(label: str, measured: bool, rates: Sequence[float]) -> str:
    if label == "freeze":
        return ""
    if measured:
        return "measured"
    low, high = min(rate for rate in rates if rate), max(rates)
    return f"x {high:.3g}" if low == high else f"x {low:.3g} to {high:.3g}"
