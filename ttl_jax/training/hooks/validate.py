"""Validation: the scores of the weights, and whether they are the best so far."""

from __future__ import annotations

from dataclasses import replace

from ttl_jax.evaluation.registry import merit
from ttl_jax.system.host import release_memory
from ttl_jax.training.hooks.preempt import saved_if_asked
from ttl_jax.training.loop_state import LoopState
from ttl_jax.training.records.events import val_event
from ttl_jax.training.state import TrainState, with_statistics
from ttl_jax.training.trainer import Trainer


def validate(trainer: Trainer, now: LoopState) -> LoopState:
    """Scores the weights on the validation split, where that is due, and writes the line about it.

    Raises:
        Preempted: asked to stop meanwhile; the state is saved with the validation still due.
    """
    if not now.evaluate:
        return now
    release_memory()  # the step's: a validation may need as much
    with saved_if_asked(trainer, now.state, replace(now.progress, due=True)):
        shown = as_validated(trainer, now)
        scores = now.data.validate(shown.variables)
    progress, phase = now.progress, trainer.phases[now.progress.phase].phase.name
    trainer.log.event(**val_event(progress.step, trainer.steps_per_epoch, phase, scores))
    progress = replace(progress.scored(merit(scores, trainer.config.select)), due=False)
    now = replace(now, progress=progress, scores=scores, validated=shown.variables)
    if trainer.estimate.batches:
        now = replace(now, statistics=shown.batch_stats)
    release_memory()
    return now.lap()


def as_validated(trainer: Trainer, now: LoopState) -> TrainState:
    """The whole state, its BatchNorm statistics estimated anew where the config says so."""
    whole: TrainState = trainer.layout.whole(now.state)
    if not trainer.estimate.batches:
        return whole
    return with_statistics(whole, now.data.estimated(whole.variables)["batch_stats"])
