"""The loop: phases in order, steps in order, and after every call of the step the hooks.

docs/architecture.md tells a run in ten lines; `hooks/__init__.py` states the hooks' order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

import jax
import numpy as np

from ttl_jax.training import compile_ahead
from ttl_jax.training.heads.solve_phase import solve_phase
from ttl_jax.training.hooks import after_step
from ttl_jax.training.hooks.early_stop import has_ended
from ttl_jax.training.hooks.preempt import left, saved_if_asked
from ttl_jax.training.hooks.validate import as_validated
from ttl_jax.training.loop_state import LoopState
from ttl_jax.training.progress import Progress, crosses
from ttl_jax.training.schedule import learning_rates, peak_rate
from ttl_jax.training.state import TrainState, with_variables
from ttl_jax.training.step import Batch
from ttl_jax.training.trainer import Trainer

AHEAD = 2  # calls that the host may be ahead of the device: a stop waits for no more than these
T = TypeVar("T")


def run_phases(trainer: Trainer) -> Progress:
    """Trains through all phases from where the last checkpoint stands; returns the final progress.

    Raises:
        DivergedError: a loss or gradient that is not finite; the last good checkpoint stays.
        Preempted: the notice asked to stop; all that was done is saved.
        Paused: a hook paused the run.
    """
    saved = trainer.saved()
    if saved is not None and saved.finished:
        return saved
    state = trainer.layout.place_state(trainer.restored(saved))
    progress = saved or Progress(digest=trainer.phases[0].digest)
    progress = replace(progress, made_from=trainer.made_from)
    trainer.log.begin(sum(trainer.lengths), progress.step)
    try:
        while True:
            state = _adapted(trainer, state, progress)
            solved = trainer.phases[progress.phase].solver is not None
            state, progress = (solve_phase if solved else run_phase)(trainer, state, progress)
            if progress.phase + 1 == len(trainer.phases):
                break
            state, progress = _hand_over(trainer, state, progress)
            if trainer.session.notice.asked():
                raise left(trainer, progress.step)
        progress = replace(progress, finished=True)
        trainer.save_last(state, progress)
        trainer.checkpoints.wait()
    finally:
        trainer.log.close()
    return progress


def _adapted(trainer: Trainer, state: TrainState, progress: Progress) -> TrainState:
    """The state in which a phase begins: with bn="adapted" the BatchNorms know the training images."""
    bound = trainer.phases[progress.phase]
    if bound.phase.bn != "adapted" or progress.due or progress.step != progress.phase_start:
        return state
    whole = trainer.layout.whole(state)
    with saved_if_asked(trainer, state, progress):
        adapted = trainer.data(bound, whole.trained).adapted(whole.trained)
    state = trainer.layout.place_state(replace(whole, batch_stats=adapted["batch_stats"]))
    return state


def _hand_over(trainer: Trainer, state: TrainState, progress: Progress) -> tuple[TrainState, Progress]:
    """The next phase's state, placed, and progress, once both are saved."""
    whole = trainer.layout.whole(state)
    if trainer.config.hand_over == "best":
        whole = with_variables(whole, trainer.best(progress.best_step))
    whole, progress = trainer.next_phase(whole, progress)
    if trainer.phases[-1].keeps_start and progress.phase + 1 == len(trainer.phases):
        trainer.checkpoints.save_start(progress.step, whole.variables)
    state = trainer.layout.place_state(whole)
    trainer.save_last(state, progress)
    return state, progress


def run_phase(trainer: Trainer, state: TrainState, progress: Progress) -> tuple[TrainState, Progress]:
    """Trains one phase to its last step, or to where its validations end it."""
    config, layout, start = trainer.config, trainer.layout, time.perf_counter()
    bound, stop = trainer.phases[progress.phase], progress.phase_start + trainer.lengths[progress.phase]
    # ---- The phase: its data (what its frozen units give is computed here), constants, learning rates.
    trained = layout.whole(state).trained
    data = trainer.data(bound, trained).computed(trained)
    del trained  # the step takes the state's buffers over
    constants = trainer.constants_of(bound)
    fixed = (constants,) if constants else ()
    measure = compile_ahead.measure_of(trainer, data)
    peak = peak_rate(bound.phase, config.optimizer.lr)
    rates = learning_rates(config.schedule, peak, stop - progress.phase_start)
    now = LoopState(state, progress, data, stop, peak, lap_at=start, looked_at=progress.step)
    # ---- Resumed: the validation that a stop interrupted comes first; an early stop stays one.
    if progress.due:
        now = after_step(trainer, replace(now, evaluate=True))
    if has_ended(trainer, now.progress, peak):
        return _at_the_end(trainer, now)

    def awaited(step: int) -> bool:
        """Return whether the host has something to do after a step."""
        looked_at = _validates(trainer, progress, step, stop) or crosses(step, config.log_every_steps)
        return looked_at or (measure is not None and crosses(step, trainer.steps_per_epoch))

    # ---- The steps.
    run, first = None, now.progress.step
    for group in in_calls(data.batches(first, stop), first, config.parallel.steps_per_call, awaited):
        if measure is not None:
            now = _measured(trainer, now, measure)
        batches = tuple(map(layout.place_batch, group))
        if run is None:
            run, flops = compile_ahead.step_of(trainer, now.progress, data, now.state, batches[0], constants)
            now = _begun(trainer, now, flops)
        done = now.progress.step - progress.phase_start
        scaled = rates[done : done + len(group)] * np.float32(now.progress.plateau.scale)
        if len(group) == 1:
            stepped = run(now.state, batches[0], scaled[0], *fixed)
        else:
            several = compile_ahead.steps_of(trainer, data, now.state, batches, constants, scaled)
            stepped = several(now.state, batches, scaled, *fixed)
        now = after_step(trainer, _stepped(trainer, now, stepped, group, float(scaled[-1])))
        if now.ended:
            break
    return _at_the_end(trainer, now)


def _validates(trainer: Trainer, progress: Progress, step: int, stop: int) -> bool:
    """Return whether there is a validation after a step: at the end of a phase and of `eval_every_epochs`.

    Where two phases meet, within a step of the end of an epoch, there is one: that of the phase's end.
    """
    about_to_end = step == stop - 1 and progress.phase + 1 < len(trainer.phases)
    just_begun = step == progress.phase_start + 1 and progress.phase > 0
    beside = (about_to_end or just_begun) and trainer.eval_every > 2
    return step == stop or (crosses(step, trainer.eval_every) and not beside)


def _begun(trainer: Trainer, now: LoopState, flops: float) -> LoopState:
    """Return the loop's state once the step is compiled: the time until then is a lap of its own."""
    for hook in trainer.hooks:
        hook.on_phase(trainer, now)
    known = now.progress.flops_per_step[: now.progress.phase]
    return replace(now, progress=replace(now.progress, flops_per_step=(*known, flops))).lap()


def _measured(trainer: Trainer, now: LoopState, measure: compile_ahead.Measure) -> LoopState:
    """Measures the multipliers of the learning rate, where an epoch or the phase begins."""
    layout, step, part = trainer.layout, now.progress.step, now.data.bound.ahead
    assert part is not None
    if step != now.progress.phase_start and not crosses(step, trainer.steps_per_epoch):
        return now
    with saved_if_asked(trainer, now.state, now.progress):  # the state is as it was: it is measured again
        few = trainer.session.notice.polled(now.data.batches(step, step + part.batches_ahead))
        state = layout.place_state(measure(layout.whole(now.state), map(layout.split, few)))
    return replace(now, state=state)


def _stepped(
    trainer: Trainer, now: LoopState, found: tuple[TrainState, Any], group: tuple[Batch, ...], rate: float
) -> LoopState:
    """Return the loop's state after a call of the step. What is due there is decided once, for all hooks."""
    (state, figures), config, step = found, trainer.config, now.progress.step + len(group)
    dispatched = (*now.dispatched, (step, figures, [batch["example"] for batch in group]))
    if len(dispatched) > AHEAD:
        jax.block_until_ready(dispatched[-1 - AHEAD][1])
    leave, late = (
        trainer.session.notice.asked(),
        time.perf_counter() - now.saved_at > 60 * config.save_every_minutes,
    )
    return LoopState(
        state=state,
        progress=replace(now.progress, step=step),
        data=now.data,
        stop=now.stop,
        top_rate=now.top_rate,
        rate=rate,
        dispatched=dispatched,
        evaluate=_validates(trainer, now.progress, step, now.stop),
        log=crosses(step, config.log_every_steps),
        save=leave or (late and not trainer.layout.several),  # clocks differ between processes
        leave=leave,
        lap_at=now.lap_at,
        saved_at=now.saved_at,
        looked_at=now.looked_at,
    )


def _at_the_end(trainer: Trainer, now: LoopState) -> tuple[TrainState, Progress]:
    """The state that a phase hands over, and its progress.

    With the statistics that were estimated anew for its last validation: a unit that will be still keeps
    them for good. No step before sees them, so that training does not depend on how often it is validated.
    """
    if not trainer.estimate.batches:
        return now.state, now.progress
    whole = trainer.layout.whole(now.state)
    estimated = now.statistics if now.statistics is not None else as_validated(trainer, now).batch_stats
    return trainer.layout.place_state(replace(whole, batch_stats=estimated)), now.progress


def in_calls(
    batches: Iterable[T], start: int, most: int, ends: Callable[[int], bool]
) -> Iterator[tuple[T, ...]]:
    """Yield batches in groups of `most`, or one by one where the host has to act before the group is done.

    The result is two compiled programs at most, and a host that waits at every step where it has to act.

    Args:
        batches: one a step, from step `start` on.
        start: steps done so far.
        most: largest number of batches in a group.
        ends: says whether the host has to act (validate, log, save) after a given step.
    """
    left = iter(batches)
    while True:
        free = not any(ends(start + number) for number in range(1, most))
        group = tuple(islice(left, most if free else 1))
        if not group:
            return
        yield group
        start += len(group)
