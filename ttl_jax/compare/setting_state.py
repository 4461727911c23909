"""The state of each setting, read anew from its folders whenever a cell has ended; and what may go then."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ttl_jax.compare import cells, tune
from ttl_jax.compare.cells import Cell, CellState, Setting
from ttl_jax.compare.config import CompareConfig
from ttl_jax.compare.space import Hyperparameters
from ttl_jax.evaluation.registry import Merit


@dataclass(frozen=True)
class SettingState:
    """The state of a setting.

    Attributes:
        setting: the setting.
        tuning: merit on validation of the trials so far, None where the run diverged.
        taken: the hyperparameters taken, None while that is open.
        todo: cells that can be run now.
        done: number of cells done.
        total: number of cells, as far as known.
        finals: states of the final cells, once hyperparameters are taken.
    """

    setting: Setting
    tuning: Mapping[Hyperparameters, Merit | None]
    taken: Hyperparameters | None
    todo: tuple[Cell, ...]
    done: int
    total: int
    finals: Mapping[Cell, CellState]

    @property
    def rate(self) -> float | None:
        """The learning rate taken."""
        return self.taken.lr if self.taken is not None else None


def setting_state(
    config: CompareConfig, workdir: Path, setting: Setting, tuner: tune.Tuner | None
) -> SettingState:
    """Reads the state of a setting.

    Args:
        tuner: None where there is nothing to choose: the one rate of `compare.lrs`, or optimizer.lr.
    """
    seeds = len(config.compare.seeds)
    if tuner is None:
        scores, tuning = dict[Hyperparameters, Merit | None](), tuple[Cell, ...]()
        lr = config.compare.lrs[0] if config.compare.lrs else config.optimizer.lr
        taken: Hyperparameters | None = Hyperparameters(lr)
        tried = 0
    else:
        scores, tuning = _tune(config, workdir, setting, tuner)
        taken = None if tuning else tune.best(scores)
        tried = max(tuner.total, len(scores) + len(tuning))
    if taken is None:  # still open, or training diverged in every trial
        return SettingState(setting, scores, None, tuning, len(scores), tried + seeds * bool(tuning), {})
    chosen = cells.final_cells(config, setting, *taken)
    finals = {cell: cells.state_of(workdir, cell, config.select) for cell in chosen}
    todo = tuple(cell for cell, outcome in finals.items() if outcome.status == "waiting")
    return SettingState(
        setting, scores, taken, todo, len(scores) + seeds - len(todo), len(scores) + seeds, finals
    )


def _tune(
    config: CompareConfig, workdir: Path, setting: Setting, tuner: tune.Tuner
) -> tuple[dict[Hyperparameters, Merit | None], tuple[Cell, ...]]:
    """The scores known, and the tuning cells to run now; none are left once the tuner has enough."""
    scores: dict[Hyperparameters, Merit | None] = {}
    wanted = tuner.known()
    while True:
        tuning = [cells.tuning_cell(config, setting, *each) for each in wanted]
        outcomes = {cell: cells.state_of(workdir, cell, config.select) for cell in tuning}
        scores |= {
            cell.hyperparameters: known.score for cell, known in outcomes.items() if known.status != "waiting"
        }
        wanted = tuner.wanted(scores)
        todo = tuple(cells.tuning_cell(config, setting, *each) for each in wanted)
        todo = tuple(c for c in todo if cells.state_of(workdir, c, config.select).status == "waiting")
        if todo or not wanted:
            return scores, todo


def prune(config: CompareConfig, workdir: Path, state: SettingState) -> None:
    """Removes checkpoints of finished cells, as `compare.keep` says.

    Those of tuning runs go once hyperparameters are taken, save the folder that a final cell goes on in; of
    final cells the best variables stay with "best".
    """
    if config.compare.keep == "all" or state.taken is None:
        return
    finals = {cells.folder(workdir, cell): outcome for cell, outcome in state.finals.items()}
    for tried in state.tuning:
        place = cells.folder(workdir, cells.tuning_cell(config, state.setting, *tried))
        if place not in finals:
            shutil.rmtree(place / "checkpoints", ignore_errors=True)
    for place, outcome in finals.items():
        if outcome.status == "done":
            what = "checkpoints/last" if config.compare.keep == "best" else "checkpoints"
            shutil.rmtree(place / what, ignore_errors=True)
