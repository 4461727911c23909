"""What of a config would only fail after minutes is refused at once."""

from __future__ import annotations

from typing import Any

from ttl_jax import data
from ttl_jax.errors import UserError, nearest
from ttl_jax.training import loggers
from ttl_jax.training.loss import check_loss

SCORED = ("auroc", "auprc", "accuracy", "balanced_accuracy", "f1_macro", "mcc", "kappa", "loss")


def check(config: Any) -> None:
    """Refuses values that would only fail after minutes.

    Raises:
        UserError: naming the field, the value and what it takes.
    """
    if config.select not in SCORED:
        raise UserError(f"config select={config.select!r}{nearest(config.select, SCORED)}")
    for key, value in (
        ("data.batch_size", config.data.batch_size),
        ("data.eval_batch_size", config.data.eval_batch_size),
        ("optimizer.lr", config.optimizer.lr),
        ("eval_every_epochs", config.eval_every_epochs),
        ("log_every_steps", config.log_every_steps),
        ("nan_check_steps", config.nan_check_steps),
    ):
        if not value > 0:
            raise UserError(f"config {key}={value} must be above 0")
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
    data.parse_augment(config.data.augment)
    loggers.check(config.loggers)
    data.views.views(config.data.tta)
    if config.model.dtype not in ("float32", "bfloat16"):
        raise UserError(f"config model.dtype={config.model.dtype!r} is not 'float32' or 'bfloat16'")
