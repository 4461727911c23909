"""Where each setting stands, worked out anew from its folders whenever a cell has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttl_jax.compare import cells, tune
from ttl_jax.compare.cells import Cell, Outcome, Setting
from ttl_jax.evaluation.selection import Merit


@dataclass(frozen=True)
class Plan:
    """Where a setting stands.

    Attributes:
        setting: which.
        tuning: rates tried so far -> merit on validation, None where the run diverged.
        rate: the learning rate taken, None while that is open.
        todo: cells that can be run now.
        done: number of cells done.
        total: number of cells, as far as known.
        finals: outcomes of the final cells, once the rate is taken.
    """

    setting: Setting
    tuning: Mapping[float, Merit | None]
    rate: float | None
    todo: tuple[Cell, ...]
    done: int
    total: int
    finals: Mapping[Cell, Outcome]


def plan(config: Any, workdir: Path, setting: Setting, tuner: tune.Tuner | None) -> Plan:
    """Reads where a setting stands.

    Args:
        tuner: None where there is nothing to choose: the one rate of `compare.lrs`, or optimizer.lr.
    """
    seeds = len(config.compare.seeds)
    if tuner is None:
        scores, tuning = dict[float, Merit | None](), tuple[Cell, ...]()
        rate: float | None = config.compare.lrs[0] if config.compare.lrs else config.optimizer.lr
        tried = 0
    else:
        scores, tuning = _tune(config, workdir, setting, tuner)
        rate = None if tuning else tune.best(scores)
        tried = max(tuner.total, len(scores) + len(tuning))
    if rate is None:  # still open, or training diverged at every rate
        return Plan(setting, scores, None, tuning, len(scores), tried + seeds * bool(tuning), {})
    chosen = cells.final_cells(config, setting, rate)
    finals = {cell: cells.outcome(workdir, cell, config.select) for cell in chosen}
    todo = tuple(cell for cell, outcome in finals.items() if outcome.status == "waiting")
    return Plan(setting, scores, rate, todo, len(scores) + seeds - len(todo), len(scores) + seeds, finals)


def _tune(
    config: Any, workdir: Path, setting: Setting, tuner: tune.Tuner
) -> tuple[dict[float, Merit | None], tuple[Cell, ...]]:
    """The scores known, and the tuning cells to run now; none are left once the tuner has enough."""
    scores: dict[float, Merit | None] = {}
    wanted = tuner.rates()
    while True:
        tuning = [cells.tuning_cell(config, setting, lr) for lr in wanted]
        outcomes = {cell: cells.outcome(workdir, cell, config.select) for cell in tuning}
        scores |= {cell.lr: known.score for cell, known in outcomes.items() if known.status != "waiting"}
        wanted = tuner.wanted(scores)
        todo = tuple(cells.tuning_cell(config, setting, lr) for lr in wanted)
        todo = tuple(c for c in todo if cells.outcome(workdir, c, config.select).status == "waiting")
        if todo or not wanted:
            return scores, todo
