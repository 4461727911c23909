"""The check of a run's config, before anything is read or trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttl_jax import data
from ttl_jax.config import RunConfig, run_config
from ttl_jax.errors import UserError
from ttl_jax.evaluation import registry
from ttl_jax.system import preemption
from ttl_jax.system.host import machine_memory
from ttl_jax.training.batch_statistics import estimate_of
from ttl_jax.training.loss import check_loss
from ttl_jax.training.records import loggers

FLOATS = 5  # bytes a value: as it was read, and as the network gets it

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def check(config: ConfigDict | RunConfig) -> RunConfig:
    """Converts a config to its dataclass and refuses values that would only fail after minutes.

    Raises:
        UserError: naming the field, the value and what it takes.
    """
    config = run_config(config)
    registry.selectable(config.select)
    if (config.select_phase, config.hand_over) == ("any", "best"):
        raise UserError(
            "config hand_over='best' starts a phase from the best of the one before, which "
            "select_phase='any' may not keep: it needs select_phase='last'"
        )
    if config.total_steps <= 0 and not config.total_epochs > 0:
        raise UserError(f"config total_epochs={config.total_epochs} must be above 0")
    if config.parallel.accumulate > config.data.batch_size:
        raise UserError(
            f"config parallel.accumulate={config.parallel.accumulate} takes a batch in more parts than its "
            f"data.batch_size={config.data.batch_size} images: lower it"
        )
    estimate_of(config.model)
    check_loss(config.loss)
    data.augmentation(config.data)
    data.parse_mix(config.data.mix)
    loggers.check(config.loggers)
    preemption.check_source(config.preemption_notice)
    data.test_time.views(config.data.tta)
    _check_memory(config)
    return config


def _check_memory(config: RunConfig) -> None:
    """Refuse a batch that this machine's memory cannot hold: it would be killed without a word."""
    for name in ("batch_size", "eval_batch_size"):
        size, side = getattr(config.data, name), config.data.image_size
        images = size * config.data.depth if config.data.slices == "volume" else size
        needed, there = images * side * side * 3 * FLOATS, machine_memory()
        if needed > there:
            raise UserError(
                f"config data.{name}={size} with data.image_size={side}: the images of a batch alone take "
                f"{needed / 2**30:.0f} GiB, and this machine has {there / 2**30:.0f}: lower one of them"
            )
