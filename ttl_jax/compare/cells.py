"""The cells of a comparison: which runs there are, their configs, folders, and what came of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ttl_jax import strategies
from ttl_jax.compare.config import CompareConfig, strategy_texts
from ttl_jax.compare.space import Hyperparameters
from ttl_jax.config import RunConfig, replace_fields, run_config
from ttl_jax.config.data import IDENTITY
from ttl_jax.data.positive import LAST
from ttl_jax.data.published import presets
from ttl_jax.errors import UserError
from ttl_jax.evaluation.registry import Merit, merit
from ttl_jax.system.json_object import read_object
from ttl_jax.training.records import provenance


@dataclass(frozen=True)
class Setting:
    """The unit of tuning: a strategy on a model and a data set, or on a fold of it.

    `dataset` is "" for the one that `data` describes; `fold` is None where the split is fixed, else one of
    `folds`; `length` is that of its trainings, as a multiple of the config's.
    """

    dataset: str
    model: str
    strategy: str
    fold: int | None = None
    folds: int = 0
    length: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """The names that tell it from the others of its comparison."""
        return (self.dataset, self.model, self.title) + (() if self.fold is None else (str(self.fold),))

    @property
    def title(self) -> str:
        """The strategy as tables and folders show it."""
        return strategies.title(self.strategy)


@dataclass(frozen=True)
class Cell:
    """One run. Tuning cells (`final` False) never score the test split.

    A tuning cell as long as the final ones shares its folder with the final cell of its hyperparameters
    and seed: that one only has to score the test split.
    """

    setting: Setting
    lr: float
    seed: int
    final: bool
    epochs: float = 0.0  # of a tuning cell with a length of its own; 0 is total_epochs
    options: tuple[tuple[str, float], ...] = ()  # strengths that its strategy's text leaves open

    @property
    def hyperparameters(self) -> Hyperparameters:
        """The values that its trial sets."""
        return Hyperparameters(self.lr, self.options)


@dataclass(frozen=True)
class CellState:
    """The state of a cell, read from its folder.

    Attributes:
        status: "waiting" (not started, or cut short), "done" or "diverged".
        score: the cell's merit on validation; None unless done.
        result: content of result.json.
        message: reason why it diverged; "" otherwise.
    """

    status: str
    score: Merit | None = None
    result: dict[str, Any] | None = None
    message: str = ""


def settings(
    config: CompareConfig,
    folds: Mapping[str, int] | None = None,
    lengths: Mapping[tuple[str, str, str], float] | None = None,
) -> tuple[Setting, ...]:
    """Every setting, data set by data set, so that a worker's data set is read once.

    Args:
        folds: number of folds of each data set, from `folds.resolve`; one split each where not given.
        lengths: multiple of the budget that each setting trains for, by `budget.lengths`; default 1.

    Raises:
        UserError: two names that would get the same folder.
    """
    section = config.compare
    made = []
    for dataset in section.datasets or ("",):
        count = folds[dataset] if folds else 0
        for fold, model, strategy in itertools.product(
            range(count) if count else (None,), section.models, strategy_texts(config)
        ):
            length = lengths[dataset, model, strategy] if lengths else 1.0
            made.append(Setting(dataset, model, strategy, fold, count, length))
    slugs: dict[Path, Setting] = {}
    for setting in made:
        other = slugs.setdefault(_place(setting), setting)
        if other != setting and other.names == setting.names:
            raise UserError(f"two strategies are called {setting.title!r}: give one of them another name")
        if other != setting:
            raise UserError(f"{other} and {setting} would share a folder; write one of them otherwise")
    return tuple(made)


def tuning_cell(
    config: CompareConfig, setting: Setting, lr: float, options: tuple[tuple[str, float], ...] = ()
) -> Cell:
    """The run that judges hyperparameters on validation: on the first seed."""
    epochs = config.compare.tune_epochs
    length = 0.0 if epochs == config.total_epochs else epochs
    return Cell(setting, lr, config.compare.seeds[0], False, length, options)


def final_cells(
    config: CompareConfig, setting: Setting, lr: float, options: tuple[tuple[str, float], ...] = ()
) -> tuple[Cell, ...]:
    """The runs that count, one a seed."""
    return tuple(Cell(setting, lr, seed, True, options=options) for seed in config.compare.seeds)


def folder(workdir: Path, cell: Cell) -> Path:
    """The folder of a cell's files."""
    length = f"-epochs{cell.epochs:g}" if cell.epochs else ""
    options = "".join(f"-{name}={value!r}" for name, value in cell.options)
    return workdir / "cells" / _place(cell.setting) / f"lr{cell.lr:g}{options}-seed{cell.seed}{length}"


def _place(setting: Setting) -> Path:
    names = (setting.dataset or "data", setting.model, setting.title)
    place = Path(*(re.sub(r"[^A-Za-z0-9._+=]+", "-", name).strip("-") for name in names))
    return place if setting.fold is None else place / f"fold{setting.fold}"


def cell_config(config: CompareConfig, cell: Cell) -> RunConfig:
    """The run's config of a cell: without `compare`, with the cell's own fields set."""
    values: dict[str, Any] = {
        "model.name": cell.setting.model,
        "strategy": strategies.with_options(cell.setting.strategy, dict(cell.options)),
        "optimizer.lr": cell.lr,
        "seed": cell.seed,
        **_lengths(config, cell),
        "evaluate_test": cell.final,
        "report": False,
    }
    if cell.setting.dataset:
        values |= _data_fields(config, cell.setting.dataset)
    if cell.setting.fold is not None:
        values |= {"data.folds": cell.setting.folds, "data.fold": cell.setting.fold}
    made = replace_fields(run_config(config), values)
    if made.data.positive == LAST:  # a comparison that an earlier version began
        older = provenance.begun_as({"name": made.data.name, "path": made.data.path})
        made = replace_fields(made, older)
    return replace(made, own=provenance.own(made))


def _lengths(config: CompareConfig, cell: Cell) -> dict[str, Any]:
    """The fields of a cell's length; validations are as many whatever it is."""
    epochs, factor = cell.epochs or config.total_epochs, cell.setting.length
    if factor == 1:
        return {"total_epochs": epochs}
    return {
        "total_epochs": float(f"{epochs * factor:.4g}"),
        "total_steps": max(1, round(config.total_steps * factor)) if config.total_steps else 0,
        "eval_every_epochs": float(f"{config.eval_every_epochs * factor:.4g}"),
    }


def _data_fields(config: CompareConfig, dataset: str) -> dict[str, Any]:
    """The preset's fields, save those that the user has set to something else than the default."""
    default = RunConfig().data
    fields = presets.fields(dataset, config.compare.data_dir)
    names = {key: key.removeprefix("data.") for key in fields}
    return {
        key: value
        for key, value in fields.items()
        if names[key] in IDENTITY or getattr(config.data, names[key]) == getattr(default, names[key])
    }


def state_of(workdir: Path, cell: Cell, select: str) -> CellState:
    """Reads the state of a cell; `select` as in a run's config."""
    place = folder(workdir, cell)
    diverged = place / "diverged.json"
    if diverged.exists():
        return CellState("diverged", message=read_object(diverged, message=str)["message"])
    if not (place / "result.json").exists():
        return CellState("waiting")
    result = read_object(place / "result.json")
    if cell.final and "test" not in result:
        return CellState("waiting", result=result)
    return CellState("done", merit(result["val"], select), result)
