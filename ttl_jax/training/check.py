"""What of a config would only fail after minutes is refused at once."""

from __future__ import annotations

from functools import reduce
from operator import getitem
from typing import Any

from ttl_jax import data
from ttl_jax.errors import UserError
from ttl_jax.evaluation import registry
from ttl_jax.training.batch_statistics import estimate_of
from ttl_jax.training.loss import check_loss
from ttl_jax.training.optimizer import base_transform
from ttl_jax.training.records import loggers
from ttl_jax.training.schedule import learning_rates

# What a number may be: fields, whether a value will do, and how that is said.
BOUNDS = (
    (
        ("data.batch_size", "data.eval_batch_size", "optimizer.lr", "optimizer.eps", "eval_every_epochs",
         "log_every_steps", "nan_check_steps", "parallel.steps_per_call"),
        lambda value: value > 0, "above 0",
    ),
    (
        ("optimizer.weight_decay", "optimizer.clip", "schedule.patience", "schedule.min_lr",
         "early_stop.patience", "nan_skip", "cache_disk_gb", "data.cache_gb", "save_every_minutes"),
        lambda value: value >= 0, "0 or above",
    ),
    (
        ("optimizer.momentum", "optimizer.b1", "optimizer.b2", "schedule.warmup"),
        lambda value: 0 <= value < 1, "from 0 to below 1",
    ),
    (("schedule.final",), lambda value: 0 <= value <= 1, "from 0 to 1"),
    (("save_share",), lambda value: 0 < value <= 1, "above 0, up to 1"),
    (("schedule.factor",), lambda value: 0 < value < 1, "between 0 and 1"),
)  # fmt: skip


def check(config: Any) -> None:
    """Refuses values that would only fail after minutes.

    Raises:
        UserError: naming the field, the value and what it takes.
    """
    registry.selectable(config.select)
    for field, known in (("select_phase", ("last", "any")), ("hand_over", ("last", "best"))):
        if config[field] not in known:
            raise UserError(f"config {field}={config[field]!r} is not {known[0]!r} or {known[1]!r}")
    if (config.select_phase, config.hand_over) == ("any", "best"):
        raise UserError(
            "config hand_over='best' starts a phase from the best of the one before, which "
            "select_phase='any' may not keep: it needs select_phase='last'"
        )
    values = config.to_dict()
    for keys, allowed, said in BOUNDS:
        for key in keys:
            value = reduce(getitem, key.split("."), values)
            if not allowed(value):
                raise UserError(f"config {key}={value} must be {said}")
    estimate_of(config.model)
    base_transform(config.optimizer)
    learning_rates(config.schedule, config.optimizer.lr, 0)
    if config.total_steps <= 0 and not config.total_epochs > 0:
        raise UserError(f"config total_epochs={config.total_epochs} must be above 0")
    if config.data.views < 0:
        raise UserError(f"config data.views={config.data.views} is negative; 0 means new views every epoch")
    if config.data.class_weights not in ("none", "balanced"):
        raise UserError(
            f"config data.class_weights={config.data.class_weights!r} is not 'none' or 'balanced'"
        )
    if config.data.sampling not in ("uniform", "balanced"):
        raise UserError(f"config data.sampling={config.data.sampling!r} is not 'uniform' or 'balanced'")
    check_loss(config.loss)
    data.augmentation(config.data)
    data.parse_mix(config.data.mix)
    loggers.check(config.loggers)
    data.test_time.views(config.data.tta)
    if config.model.dtype not in ("float32", "bfloat16"):
        raise UserError(f"config model.dtype={config.model.dtype!r} is not 'float32' or 'bfloat16'")
