"""The ingredients of a soup: the weights of the last validations."""

from __future__ import annotations

from ttl_jax.strategies.average import Soup
from ttl_jax.training.hooks.hook import LoopState
from ttl_jax.training.trainer import Trainer


def keep_ingredient(trainer: Trainer, now: LoopState) -> LoopState:
    """Saves the validated weights, where the strategy averages those of its last phase."""
    after, last_phase = trainer.strategy.after, now.progress.phase + 1 == len(trainer.phases)
    if isinstance(after, Soup) and last_phase and now.validated is not None:
        trainer.checkpoints.save_ingredient(now.progress.step, now.validated, after.last)
    return now
