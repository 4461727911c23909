"""The check of a run's config, before anything is read or trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttl_jax import data
from ttl_jax.config import RunConfig, run_config
from ttl_jax.errors import UserError
from ttl_jax.evaluation import registry
from ttl_jax.training.batch_statistics import estimate_of
from ttl_jax.training.loss import check_loss
from ttl_jax.training.records import loggers

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
    estimate_of(config.model)
    check_loss(config.loss)
    data.augmentation(config.data)
    data.parse_mix(config.data.mix)
    loggers.check(config.loggers)
    data.test_time.views(config.data.tta)
    return config
