"""The end of a phase before its last step: nothing gained for too long, or too low a learning rate."""

from __future__ import annotations

from dataclasses import replace

from ttl_jax.training.loop_state import LoopState
from ttl_jax.training.progress import Progress
from ttl_jax.training.trainer import Trainer


def stop_early(trainer: Trainer, now: LoopState) -> LoopState:
    """Lowers the learning rate on a plateau, and ends the phase where the config says so."""
    if now.scores is None:
        return now
    schedule, progress = trainer.config.schedule, now.progress
    if schedule.name == "plateau":
        plateau = progress.plateau.update(now.scores["loss"], schedule.factor, schedule.patience)
        progress = replace(progress, plateau=plateau)
    return replace(now, progress=progress, ended=has_ended(trainer, progress, now.top_rate))


def has_ended(trainer: Trainer, progress: Progress, top_rate: float) -> bool:
    """Return whether early stopping, or the plateau schedule's lowest rate, has ended a phase.

    A function of the progress alone: a run that was killed after the state of its early stop was saved,
    and before the next phase or its end was, stops at the same step when it is resumed.

    Args:
        trainer: the run's trainer.
        progress: where the run stands within the phase.
        top_rate: learning rate at the top of the phase's schedule.
    """
    schedule, patience = trainer.config.schedule, trainer.config.early_stop.patience
    if progress.peak is None:  # no validation yet
        return False
    lowered = schedule.name == "plateau" and top_rate * progress.plateau.scale < schedule.min_lr
    return 0 < patience <= progress.bad or lowered
