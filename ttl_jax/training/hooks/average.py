"""The ingredients of a soup: the weights of the last validations."""

from __future__ import annotations

from ttl_jax.training.loop_state import LoopState
from ttl_jax.training.trainer import Trainer


def keep_ingredient(trainer: Trainer, now: LoopState) -> LoopState:
    """Saves the validated weights, where the strategy averages those of its last phase."""
    keeps, last_phase = trainer.phases[-1].keeps, now.progress.phase + 1 == len(trainer.phases)
    if keeps and last_phase and now.validated is not None:
        trainer.checkpoints.save_ingredient(now.progress.step, now.validated, keeps)
    return now
