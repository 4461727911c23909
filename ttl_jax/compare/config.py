"""The config of a comparison: that of a run, and the section `compare`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ttl_jax import models, registry, strategies
from ttl_jax.compare.space import space
from ttl_jax.config.data import IDENTITY, DataConfig, generated
from ttl_jax.config.fields import Section, another_default, defaults, option, typed
from ttl_jax.config.run import RunConfig
from ttl_jax.data.published import presets
from ttl_jax.engines import ENGINES
from ttl_jax.errors import UserError, nearest
from ttl_jax.strategies import STRENGTHS, Strategy, text_of

if TYPE_CHECKING:
    from ml_collections import ConfigDict


@dataclass(frozen=True)
class CompareOptions(Section):
    """The strategies, models, data sets and seeds, and how they are made comparable (docs/comparing.md)."""

    strategies: tuple[str | Strategy, ...] = option(
        ("full", "linear_probe"), "see `ttl-jax strategies`", objects=True
    )
    models: tuple[str, ...] = option(("efficientnet_lite0",), "see `ttl-jax models`")
    datasets: tuple[str, ...] = option(
        ("phantom/dermoscopy",), "see `ttl-jax datasets`; () is the one that `data` describes"
    )
    data_dir: str = option(presets.GIVEN["data_dir"], "folder in which these look for their files")
    seeds: tuple[int, ...] = option(
        (0, 1, 2), "the same for every strategy: common random numbers", at_least=0
    )
    folds: str = option(
        "auto",
        "cross-validation by whole groups, rates tuned in every fold: 0 (one split), 3 or more folds, or "
        "auto: 5 where fewer than 1,000 images train and the data have no test split of their own",
    )
    budget: str = option(
        "epochs",
        "equal for all: epochs, or flops, as many operations as `reference`",
        choices=("epochs", "flops"),
    )
    tuner: str = option(
        "grid",
        "grid: the rates of `lrs` alone; latin: `trials` points of the rate and the strategy's own strengths "
        "(a Latin hypercube), the same rates for all; optuna: as many that it proposes, in WORKDIR/optuna",
        choices=("grid", "latin", "optuna"),
    )
    lrs: tuple[float, ...] = option(
        (1e-4, 3e-4, 1e-3, 3e-3), "grid: learning rates; one or none (optimizer.lr) means no tuning", above=0
    )
    extend: int = option(
        0, "grid: rates tried beyond it while the best one is its lowest or highest", at_least=0
    )
    trials: int = option(8, "latin, optuna: trials of each setting, whatever its strategy", at_least=1)
    lr_range: tuple[float, ...] = option(
        (1e-5, 1e-2), "latin, optuna: lowest and highest rate, spread in the logarithm", above=0
    )
    grids: Mapping[str, Mapping[str, tuple[float, ...]]] = option(
        STRENGTHS,
        "latin, optuna: values of a strategy's options that its text leaves open, as "
        '--config.compare.grids.l2_sp.alpha="(0.01, 0.1)"; () leaves one at its default',
    )
    tune_epochs: float = option(
        0.0, "length of tuning runs; 0 is total_epochs, and the best run is kept", at_least=0
    )
    together: bool = option(True, "train probes of a setting on the same features as one program")
    engine: str = option(
        "local", "where runs train: local (processes of this machine), ray or submitit", choices=ENGINES
    )
    workers: int = option(1, "cells that train at a time", at_least=1)
    retries: int = option(1, "times that a cell whose process died is started again", at_least=0)
    reference: str | Strategy = option(
        "full", "strategy that the others are tested against; else the first", objects=True
    )
    rope: float = option(
        0.01, "difference of `select`, either way, that makes no practical difference", at_least=0
    )
    gain: float = option(
        0.02, "true difference for which the number of seeds that would show it is told", above=0
    )
    moderate: bool = option(False, "let seed variances borrow strength from each other (docs/validity.md)")
    latency: bool = option(True, "measure the milliseconds of a forward pass of one image at the end")
    keep: str = option(
        "best", "checkpoints of finished cells that stay: none, best or all", choices=("none", "best", "all")
    )


@dataclass(frozen=True)
class CompareConfig(RunConfig):
    """A comparison.

    The run's own fields hold for every cell, save those that a cell sets: the data set's (and its fold),
    model.name, strategy, seed, optimizer.lr, evaluate_test and report.
    """

    report_images: bool = another_default(RunConfig, "report_images", False)  # the report is handed on
    training_features: bool = another_default(RunConfig, "training_features", False)  # of so many runs
    # WORKDIR/features holds the outputs of frozen units, computed once for all cells
    cache_disk_gb: float = another_default(RunConfig, "cache_disk_gb", 4.0)
    compare: CompareOptions = CompareOptions()


def strategy_texts(config: CompareConfig) -> tuple[str, ...]:
    """Returns the strategies of a comparison as text."""
    return tuple(map(text_of, config.compare.strategies))


def default_config() -> ConfigDict:
    """Returns the locked ConfigDict of a comparison with every default, for config files to fill in."""
    return defaults(CompareConfig)


def check(config: ConfigDict | CompareConfig) -> CompareConfig:
    """Converts a config to its dataclass and refuses what would fail in every cell, or after hours in one.

    Raises:
        UserError: naming the field.
    """
    from ttl_jax.training.run import (
        check as check_run,  # heavy, and not for the processes that only read a config
    )

    config = typed(CompareConfig, config)
    section = config.compare
    for field in ("strategies", "models", "seeds"):
        values = getattr(section, field)
        if not values:
            raise UserError(f"config compare.{field} is empty; name at least one")
        if len(set(values)) < len(values):
            raise UserError(f"config compare.{field}={values} names something twice")
    check_run(config)
    for name in section.models:
        registry.get("backbone", name, f"config compare.models: no model {name!r}")
        for text in strategy_texts(config):
            shape = strategies.parse(text).surgery.shape(name)
            models.create(name, 2, **{**shape, "head": config.model.head or shape["head"]})
    for name in section.datasets:
        presets.fields(name, section.data_dir)
    for field in IDENTITY if section.datasets else ():
        if (value := getattr(config.data, field)) != getattr(DataConfig, field):
            raise UserError(
                f"config data.{field}={value!r} is not read, as compare.datasets={section.datasets} names "
                'the data sets; write --config.compare.datasets="()" to compare on what `data` describes'
            )
    if len(set(section.lrs)) < len(section.lrs):
        raise UserError(f"config compare.lrs={section.lrs} must be different rates above 0")
    if len(section.lr_range) != 2 or not section.lr_range[0] < section.lr_range[1]:
        raise UserError(f"config compare.lr_range={section.lr_range} must rise, from above 0")
    if section.folds != "auto":
        _check_folds(config)
    for key, grids in section.grids.items():
        if key not in strategies.names():
            raise UserError(f"config compare.grids: no strategy {key!r}{nearest(key, strategies.names())}")
        for name, values in grids.items():
            if any(not isinstance(value, int | float) for value in values) or len(set(values)) < len(values):
                raise UserError(
                    f"config compare.grids.{key}.{name}={tuple(values)} must be different numbers"
                )
    for text in strategy_texts(config) if section.tuner != "grid" else ():
        for name, values in space(config, text).grids:
            for value in values:
                strategies.parse(strategies.with_options(text, {name: value}))
    if section.tune_epochs and config.total_steps:
        raise UserError("config compare.tune_epochs needs total_epochs; set total_steps=0")
    return config


def _check_folds(config: CompareConfig) -> None:
    """Refuses a number of folds that is too small, or of data sets that have none."""
    section = config.compare
    if not section.folds.isdigit() or 0 < int(section.folds) < 3:
        raise UserError(
            f"config compare.folds={section.folds!r}: folds are 3 or more (train, val, test), '0' or 'auto'"
        )
    phantoms = [name for name in section.datasets or (config.data.name,) if generated(name)]
    if int(section.folds) and phantoms:
        raise UserError(f"config compare.folds: {phantoms[0]} is generated and has no folds; use more seeds")
