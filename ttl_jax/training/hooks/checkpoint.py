"""Checkpoints: the best weights so far, and the state to resume from."""

from __future__ import annotations

import time
from dataclasses import replace

from ttl_jax.system.host import release_memory
from ttl_jax.training.loop_state import LoopState
from ttl_jax.training.trainer import Trainer


def checkpoint(trainer: Trainer, now: LoopState) -> LoopState:
    """Keeps the best weights, and saves the state where it is due.

    After a validation the state is saved where the phase ends, or `save_share` allows the time; always
    where several processes take part: they must agree, and their clocks differ.
    """
    if now.validated is not None and now.progress.best_step == now.progress.step:
        trainer.checkpoints.save_best(now.progress.step, now.validated)
    save = now.save
    if now.evaluate:
        save |= trainer.layout.several or now.ended or trainer.checkpoints.affordable()
    return saved(trainer, now) if save else now


def saved(trainer: Trainer, now: LoopState) -> LoopState:
    """Saves the state unless that of this step is saved; the phase's last is, with the hand-over."""
    if now.saved or now.last:
        return now
    if not now.evaluate:
        release_memory()  # the step's: copies may need as much
    trainer.save_last(now.state, now.progress)
    return replace(now, saved=True, saved_at=time.perf_counter())
