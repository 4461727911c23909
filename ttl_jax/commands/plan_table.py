"""The plan of a strategy on a network as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ttl_jax.config import RunConfig
from ttl_jax.system import terminal

if TYPE_CHECKING:
    from ttl_jax.analysis.strategy_plan import PhasePlan, Plan


def print_plan(plan: Plan) -> None:
    """Prints the phases, their labels and what they cost."""
    from ttl_jax.training.records.header import between_phases

    console = terminal.console(elsewhere=130)
    console.print(
        f"{plan.strategy} on {plan.model}: {plan.parameters:,} parameters; "
        f"a step of {plan.batch} images at {plan.image_size} px"
    )
    if plan.dropped:
        console.print(f"dropped: {', '.join(plan.dropped)}")
    for start in dict.fromkeys(plan.fresh.values()):
        units = [unit for unit, how in plan.fresh.items() if how == start]
        console.print(f"start {start}: {', '.join(units)}")
    rows = [
        {
            "phase": phase.name if number == 0 else "",
            "share of steps": f"{phase.share:.0%}" if number == 0 else "",
            "label": row.label,
            "learning rate": _rate(row.label, phase, [u.rate for u in phase.units if row.label in u.labels]),
            "leaves": row.leaves,
            "parameters": row.parameters,
            "BatchNorm statistics": row.statistics,
            "GFLOP a step": _operations(phase.flops) if number == 0 else "",
            "optimizer MB": f"{phase.optimizer_bytes / 1e6:,.4g}" if number == 0 else "",
        }
        for phase in plan.phases
        for number, row in enumerate(phase.rows)
    ]
    console.print(terminal.table(rows, console.width))
    if len(plan.phases) > 1:
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
