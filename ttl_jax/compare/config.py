"""The config of a comparison: a run's config, and the section `compare` beside it."""

from __future__ import annotations

from typing import Any

from ttl_jax import models, registry, strategies
from ttl_jax.compare.space import space
from ttl_jax.config import run as run_config
from ttl_jax.data.published import presets
from ttl_jax.engines import ENGINES
from ttl_jax.errors import UserError, nearest

TUNERS = ("grid", "latin", "optuna")
KEPT = ("none", "best", "all")
BUDGETS = ("epochs", "flops")
# What makes a data set the one that it is: here a preset is never overruled.
IDENTITY = ("name", "path", "root", "image", "label", "group", "split")


def default_config() -> Any:
    """Returns a run's config with every field of `compare` added, locked.

    The run's own fields hold for every cell, save those that a cell sets: the data set's (and its
    fold), model.name, strategy, seed, optimizer.lr, evaluate_test and report.
    """
    from ml_collections import ConfigDict

    config = run_config.default_config().unlock()
    config.report_images = False  # a comparison's report is made to be handed on
    config.cache_disk_gb = 4.0  # WORKDIR/features: frozen units' outputs, computed once for all cells
    config.compare = ConfigDict()
    config.compare.strategies = ("full", "linear_probe")  # as in `python -m ttl_jax strategies`
    config.compare.models = ("efficientnet_lite0",)  # as in `python -m ttl_jax models`
    config.compare.datasets = ("phantom/dermoscopy",)  # presets; () is the one that `data` describes
    config.compare.data_dir = "../shared/data"  # where the presets look for files
    config.compare.seeds = (0, 1, 2)  # the same for every strategy: common random numbers
    # Cross-validation by whole groups, rates tuned in every fold: "0" (one split), "3" or more folds, or
    # "auto": 5 where fewer than 1,000 images train and the data have no test split of their own.
    config.compare.folds = "auto"
    config.compare.budget = "epochs"  # equal for all: "epochs", or "flops": as many operations as `reference`
    # "grid": the rates of `lrs` alone. "latin": `trials` points of the rate and the strategy's own strengths,
    # a Latin hypercube, the same rates for all. "optuna": as many that it proposes, kept in WORKDIR/optuna.
    config.compare.tuner = "grid"
    config.compare.lrs = (1e-4, 3e-4, 1e-3, 3e-3)  # grid; one or none (optimizer.lr) means no tuning
    config.compare.extend = 0  # grid: rates tried beyond it while the best one is its lowest or highest
    config.compare.trials = 8  # latin, optuna: trials of each setting, whatever its strategy
    config.compare.lr_range = (1e-5, 1e-2)  # latin, optuna: lowest and highest rate, spread in the logarithm
    # latin, optuna: values of a strategy's option that its text leaves open; () leaves it at its default
    config.compare.grids = ConfigDict(strategies.STRENGTHS)
    config.compare.tune_epochs = 0.0  # length of tuning runs; 0 is total_epochs, and the best is kept
    config.compare.together = True  # probes of a setting on the same features train as one program
    config.compare.engine = "local"  # "local", "ray" or "submitit"
    config.compare.workers = 1  # cells at a time
    config.compare.retries = 1  # how often a cell whose process died is started again
    config.compare.reference = "full"  # strategy that the others are tested against; else the first
    config.compare.rope = 0.01  # difference of `select`, either way, that makes no practical difference
    config.compare.gain = 0.02  # true difference for which the seeds that would show it are told
    config.compare.moderate = False  # seed variances borrow strength from each other: docs/validity.md
    config.compare.latency = True  # at the end, milliseconds of a forward pass of one image are measured
    config.compare.keep = "best"  # checkpoints of finished cells: "none", "best" or "all"
    return config.lock()


def settled(config: Any) -> Any:
    """The config with every Strategy among its strategies as text."""
    made = config.copy_and_resolve_references()
    with made.unlocked(), made.ignore_type():
        made.compare.strategies = tuple(map(strategies.text_of, made.compare.strategies))
        made.compare.reference = strategies.text_of(made.compare.reference)
    return made


def check(config: Any) -> None:
    """Refuses what would fail in every cell, or after hours in one.

    Raises:
        UserError: naming the field.
    """
    from ttl_jax.training import run  # heavy, and not for the processes that only read a config

    section = config.compare
    for field in ("strategies", "models", "seeds"):
        values = section[field]
        if not values:
            raise UserError(f"config compare.{field} is empty; name at least one")
        if len(set(values)) < len(values):
            raise UserError(f"config compare.{field}={tuple(values)} names something twice")
    run.check(config)
    for name in section.models:
        registry.get("backbone", name, f"config compare.models: no model {name!r}")
        for text in section.strategies:
            shape = strategies.parse(text).surgery.shape(name)
            models.create(name, 2, **{**shape, "head": config.model.head or shape["head"]})
    for name in section.datasets:
        presets.fields(name, section.data_dir)
    for field, choices in (("engine", ENGINES), ("tuner", TUNERS), ("keep", KEPT), ("budget", BUDGETS)):
        if section[field] not in choices:
            raise UserError(f"config compare.{field}={section[field]!r}{nearest(section[field], choices)}")
    for field in ("workers", "trials"):
        if section[field] < 1:
            raise UserError(f"config compare.{field}={section[field]} must be at least 1")
    if not section.gain > 0:
        raise UserError(f"config compare.gain={section.gain} must be above 0")
    for field in ("rope", "retries", "extend"):
        if section[field] < 0:
            raise UserError(f"config compare.{field}={section[field]} is negative")
    if any(not lr > 0 for lr in section.lrs) or len(set(section.lrs)) < len(section.lrs):
        raise UserError(f"config compare.lrs={tuple(section.lrs)} must be different rates above 0")
    low, high = section.lr_range
    if not 0 < low < high:
        raise UserError(f"config compare.lr_range={tuple(section.lr_range)} must rise, from above 0")
    if section.folds != "auto":
        _check_folds(config)
    for key, grids in section.grids.items():
        if key not in strategies.names():
            raise UserError(f"config compare.grids: no strategy {key!r}{nearest(key, strategies.names())}")
        for option, values in grids.items():
            if any(not isinstance(value, int | float) for value in values) or len(set(values)) < len(values):
                raise UserError(
                    f"config compare.grids.{key}.{option}={tuple(values)} must be different numbers"
                )
    for text in section.strategies if section.tuner != "grid" else ():
        for name, values in space(config, text).grids:
            for value in values:
                strategies.parse(strategies.with_options(text, {name: value}))
    if section.tune_epochs < 0:
        raise UserError(f"config compare.tune_epochs={section.tune_epochs} is negative")
    if section.tune_epochs and config.total_steps:
        raise UserError("config compare.tune_epochs needs total_epochs; set total_steps=0")


def _check_folds(config: Any) -> None:
    """Refuses a number of folds that is too small, or of data sets that have none."""
    section = config.compare
    if not section.folds.isdigit() or 0 < int(section.folds) < 3:
        raise UserError(
            f"config compare.folds={section.folds!r}: folds are 3 or more (train, val, test), '0' or 'auto'"
        )
    phantoms = [name for name in section.datasets or (config.data.name,) if name.startswith("phantom/")]
    if int(section.folds) and phantoms:
        raise UserError(f"config compare.folds: {phantoms[0]} is generated and has no folds; use more seeds")
