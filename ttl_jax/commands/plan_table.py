"""The plan of a strategy on a network as a table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ttl_jax.config import RunConfig

if TYPE_CHECKING:
    from ttl_jax.analysis.strategy_plan import PhasePlan, Plan


def print_plan(found: Plan) -> None:
    """Prints the phases, their labels and what they cost."""
    from rich.console import Console
    from rich.table import Table

    from ttl_jax.training.records.header import between_phases

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
                _rate(row.label, phase, [u.rate for u in phase.units if row.label in u.labels]),
                str(row.leaves),
                f"{row.parameters:,}",
                row.statistics,
                _operations(phase.flops) if first else "",
                f"{phase.optimizer_bytes / 1e6:,.4g}" if first else "",
            )
    console.print(table)
    if len(found.phases) > 1:
        console.print(f"by default {between_phases(RunConfig())}")


def _operations(flops: float | None) -> str:
    return "not counted" if flops is None else f"{flops / 1e9:,.4g}"


def _rate(label: str, phase: PhasePlan, rates: Sequence[float]) -> str:
    if label == "freeze":
        return ""
    if phase.measured or phase.solver:
        return phase.solver or "measured"
    low, high = min(rate for rate in rates if rate), max(rates)
    base = "" if phase.base_lr is None else f"{phase.base_lr:g} "
    return f"{base}x {high:.3g}" if low == high else f"{base}x {low:.3g} to {high:.3g}"
