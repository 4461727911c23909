"""Leaving a run that was asked to stop, with all that was done saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ttl_jax.system.preemption import Preempted
from ttl_jax.training.loop_state import LoopState
from ttl_jax.training.progress import Progress
from ttl_jax.training.state import TrainState
from ttl_jax.training.trainer import Trainer


def leave_if_asked(trainer: Trainer, now: LoopState) -> LoopState:
    """Leaves where the process was asked to stop; at a phase's end the loop does, after the hand-over.

    Raises:
        Preempted: once the state is on disk.
    """
    if now.leave and not now.last and not now.ended:
        raise left(trainer, now.progress.step)
    return now


def left(trainer: Trainer, step: int) -> Preempted:
    """Waits for the last save; returns what the user is told."""
    trainer.session.notice.saving = True
    trainer.checkpoints.wait()
    return Preempted(f"{trainer.session.notice.reason}: saved at step {step}")


@contextmanager
def saved_if_asked(trainer: Trainer, state: TrainState, progress: Progress) -> Iterator[None]:
    """Saves where a stop interrupts what the context does, such as a validation.

    Args:
        trainer: the run's trainer.
        state: the placed state, as it was before the interrupted work.
        progress: where the run resumes from.

    Raises:
        Preempted: once the state is on disk.
    """
    try:
        yield
    except Preempted:
        trainer.save_last(state, progress)
        raise left(trainer, progress.step) from None
