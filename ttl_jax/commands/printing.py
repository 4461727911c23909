"""Printing that commands share: rows, the plan of a strategy, the command to type next."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ttl_jax.commands.arguments import joined
from ttl_jax.config import RunConfig
from ttl_jax.config.run import split_top_level
from ttl_jax.system import terminal

if TYPE_CHECKING:
    from ttl_jax.analysis.strategy_plan import PhasePlan, Plan
# What may stand behind the colon of a preset, and the fields of a comparison that say the same.
LISTS = {"dataset": "compare.datasets", "model": "compare.models"}
VALUES = {"data_dir": "compare.data_dir", "weights": "model.weights"}


def print_rows(rows: Sequence[dict[str, Any]], json_wanted: bool = False) -> None:
    """Prints rows that have the same titles."""
    if json_wanted:
        print(json.dumps(rows, indent=1))
        return
    out = terminal.console(elsewhere=140)
    out.print(terminal.table(rows, out.width))


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


def compare_with(arguments: Sequence[str], workdir: str, strategies: Iterable[str]) -> str:
    """A comparison of strategies on the data and the network that a training or a search was given.

    Args:
        arguments: words behind that command's name.
        workdir: its work folder; the comparison's stands beside it.
        strategies: the strategies to compare.
    """
    from ttl_jax.training.records.provenance import quoted

    words = ["ttl-jax", "compare", "--config=compare"]
    for word in joined(arguments):
        if word.startswith(("--config.data.", "--config.model.")):
            words.append(word)
        elif word.startswith("--config="):
            for item in split_top_level(word.partition(":")[2]):
                name, _, value = (part.strip() for part in item.partition("="))
                words += [f"--config.{LISTS[name]}={(value,)}"] if name in LISTS else []
                words += [f"--config.{VALUES[name]}={value}"] if name in VALUES else []
    words += [f"--config.compare.strategies={tuple(dict.fromkeys(strategies))}"]
    words += [f"--workdir={workdir.rstrip('/')}-compare"]
    return f"next, against other strategies on the same data: {' '.join(map(quoted, words))}"


MOST_SEEDS = 20  # that are proposed: who needs more is better served by other patients


def more_seeds(comparison: Mapping[str, Any]) -> str:
    """The seeds that would settle what a comparison leaves open; else where to see more of its runs.

    Args:
        comparison: the content of compare.json.
    """
    seeds = comparison["protocol"]["seeds"]
    asked = [each.get("needed_seeds") or 0 for each in comparison["statistics"]["differences"]]
    beyond = [count for count in asked if count > MOST_SEEDS]
    enough = max((count for count in asked if count <= MOST_SEEDS), default=0)
    rest = (
        f"{len(beyond)} of {len(asked)} differences would take {min(beyond)} seeds or more" if beyond else ""
    )
    if enough <= len(seeds):
        told = f"{rest}: other patients or data sets tell more; " if rest else ""
        return f"{told}next, which runs there are: ttl-jax runs"
    first = max(seeds) + 1
    wanted = (*seeds, *range(first, first + enough - len(seeds)))
    return (
        f'next, to settle what is open: the same command with --config.compare.seeds="{wanted}"; what is '
        f"done is not done again{f' ({rest})' if rest else ''}"
    )
