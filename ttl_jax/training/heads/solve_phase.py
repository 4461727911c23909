"""A phase whose head is solved for instead of trained."""

from __future__ import annotations

import time
from dataclasses import replace

from ttl_jax.errors import UserError
from ttl_jax.evaluation.registry import merit
from ttl_jax.training.frozen.phase_data import PhaseData
from ttl_jax.training.hooks import after_step
from ttl_jax.training.loop_state import LoopState
from ttl_jax.training.progress import Progress
from ttl_jax.training.records.events import train_event
from ttl_jax.training.state import TrainState, join, split, with_variables
from ttl_jax.training.trainer import Trainer


def solve_phase(trainer: Trainer, state: TrainState, progress: Progress) -> tuple[TrainState, Progress]:
    """Solves for the head of a phase; it counts as all its steps."""
    start, bound = time.perf_counter(), trainer.phases[progress.phase]
    if not trainer.layout.plain:
        raise UserError(f"phase {bound.phase.name!r} is solved on one device: set parallel.devices=1")
    data = trainer.data(bound, state.variables).computed(state.variables)
    if not progress.due:  # else a stop interrupted the validation of what had been solved
        state, progress = _solved(trainer, data, state, progress, start)
    now = LoopState(state, progress, data, stop=progress.step, evaluate=True, looked_at=progress.step)
    now = after_step(trainer, now)
    return now.state, now.progress


def _solved(
    trainer: Trainer, data: PhaseData, state: TrainState, progress: Progress, start: float
) -> tuple[TrainState, Progress]:
    """The state with the head that was found, and the line about it."""
    bound, length = trainer.phases[progress.phase], trainer.lengths[progress.phase]
    assert bound.solver is not None
    solution = bound.solver.solve(
        trainer.inputs.network,
        bound,
        state,
        data.sets["train"],
        data.after,
        trainer.loss,
        lambda variables: merit(data.validate(variables), trainer.config.select),
    )
    _, frozen = split(state.params, bound.trainable)
    solved = {"params": join(solution.head, frozen), "batch_stats": state.batch_stats}
    state = replace(with_variables(state, solved), step=state.step + length)  # its average starts anew there
    seconds, step = time.perf_counter() - start, progress.step + length
    figures = {"loss": solution.loss, "l2": solution.l2, "iterations": solution.iterations}
    speed = length * trainer.config.data.batch_size / max(seconds, 1e-9)
    trainer.log.event(**train_event(step, trainer.steps_per_epoch, bound.phase.name, figures, 0.0, speed))
    flops = (*progress.flops_per_step[: progress.phase], solution.flops / length)
    return state, replace(progress, step=step, flops_per_step=flops, seconds=progress.seconds + seconds)
