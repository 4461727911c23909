"""Hooks: what happens after every call of the step, one file each, in one order."""

from __future__ import annotations

from collections.abc import Callable

from ttl_jax.training.hooks.average import keep_ingredient
from ttl_jax.training.hooks.checkpoint import checkpoint
from ttl_jax.training.hooks.early_stop import stop_early
from ttl_jax.training.hooks.finite import check_finite
from ttl_jax.training.hooks.log import log_step
from ttl_jax.training.hooks.preempt import leave_if_asked
from ttl_jax.training.hooks.validate import validate
from ttl_jax.training.loop_state import LoopState
from ttl_jax.training.trainer import Trainer


def callers_hooks(trainer: Trainer, now: LoopState) -> LoopState:
    """Calls the hooks that `train` was given, in their order."""
    for hook in trainer.hooks:
        now = hook.on_step(trainer, now)
    return now


# DO NOT CHANGE THE ORDER. Each stands where it does for a reason:
HOOKS: tuple[Callable[[Trainer, LoopState], LoopState], ...] = (
    check_finite,  # first: what is no number is neither logged, validated nor saved
    log_step,  # before the validation, which takes a while, and whose line follows that of its step
    validate,  # before all that a validation decides
    keep_ingredient,  # before the state is saved: what a state on disk counts on is on disk before it
    stop_early,  # before the state is saved: it says that its phase has ended, so that a resumed run knows
    checkpoint,  # the best weights, then the state that names them
    callers_hooks,  # after the state is saved: a search's pause ends the run here
    leave_if_asked,  # last: all that was due at this step is done
)


def after_step(trainer: Trainer, now: LoopState) -> LoopState:
    """Calls the hooks after a call of the step; returns where the loop stands then."""
    for hook in HOOKS:
        now = hook(trainer, now)
    return now
