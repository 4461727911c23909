"""The line about a training step."""

from __future__ import annotations

from ttl_jax.training.loop_state import LoopState
from ttl_jax.training.records.events import train_event
from ttl_jax.training.trainer import Trainer


def log_step(trainer: Trainer, now: LoopState) -> LoopState:
    """Writes the figures of the newest step, where a line or a validation is due."""
    if now.figures is not None and (now.log or now.evaluate):
        where = now.progress.step, trainer.steps_per_epoch, trainer.phases[now.progress.phase].phase.name
        trainer.log.event(**train_event(*where, now.figures, now.rate, now.speed))
    return now
