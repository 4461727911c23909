"""The loop: phases in order, validation, best and last checkpoint, early stop, resume."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax.strategies import LabelledPhase
from ttl_jax.strategies.average import After, Ema, Soup, WiseFT
from ttl_jax.training.checkpoint import Checkpoints
from ttl_jax.training.constants import Constants, anchor
from ttl_jax.training.log import EventLog
from ttl_jax.training.loss import Loss
from ttl_jax.training.measure import make_measure
from ttl_jax.training.optimizer import carry_over, make_optimizer
from ttl_jax.training.schedule import Plateau, learning_rates
from ttl_jax.training.state import TrainState, initial_state, ones, split, start_average
from ttl_jax.training.step import Batch, Mix, Prepare, compile_step, make_train_step
from ttl_jax.typing import Variables


class DivergedError(RuntimeError):
    """The loss or the gradient stopped being a number."""


class Paused(Exception):
    """The run has reached the step where it was asked to pause; the same run goes on from there."""


@dataclass(frozen=True)
class Feed:
    """What a phase trains on and is validated by.

    Attributes:
        batches: (start, stop) -> training batches of these steps.
        prepare: from a batch's "image" to what the network takes.
        validate: variables -> scores.
        after: the unit whose outputs the batches hold instead of images, if any.
    """

    batches: Callable[[int, int], Iterator[Batch]]
    prepare: Prepare
    validate: Callable[[Variables], dict[str, Any]]
    after: str | None = None


@dataclass(frozen=True)
class Job:
    """What the loop needs, already built: no config is looked up by name in here but its numbers."""

    config: Any
    network: nn.Module
    phases: tuple[LabelledPhase, ...]
    lengths: tuple[int, ...]
    loss: Loss
    keys_of: Callable[[Batch], Any]
    feed: Callable[[LabelledPhase, Variables], Feed]
    steps_per_epoch: float
    eval_every: float  # steps between validations; need not be whole
    constants: Constants = field(default_factory=dict)  # of the feature penalties
    after: After | None = None  # decides what is kept besides the best
    mix: Mix | None = None  # MixUp, CutMix
    pause_at: float = math.inf  # the first validation at or after this step raises Paused

    @property
    def ema(self) -> float | None:
        """The decay of the moving average, where one is kept."""
        return self.after.decay if isinstance(self.after, Ema) else None


@dataclass(frozen=True)
class Progress:
    """Where a run stands; saved beside the state as JSON."""

    step: int = 0
    phase: int = 0
    phase_start: int = 0
    digest: str = ""
    best: float | None = None
    best_step: int = 0
    bad: int = 0  # evaluations without a better figure
    plateau: Plateau = field(default_factory=Plateau)
    seconds: float = 0.0
    flops_per_step: tuple[float, ...] = ()
    finished: bool = False

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Progress:
        """Reads what `dataclasses.asdict` wrote."""
        values = dict(saved, plateau=Plateau(**saved["plateau"]))
        return cls(**dict(values, flops_per_step=tuple(saved["flops_per_step"])))


def run(job: Job, variables: Variables, checkpoints: Checkpoints, log_path: Any) -> Progress:
    """Trains through all phases from where the last checkpoint stands; returns the final progress.

    Args:
        job: what to run.
        variables: the start, a function of weights and seed alone: penalties are anchored to it, so
            a resumed run must be given the same.
        checkpoints: where the state is kept.
        log_path: of the event lines.

    Raises:
        DivergedError: a loss or gradient that is not finite; the last good checkpoint stays.
    """
    saved = checkpoints.progress()
    progress = Progress.from_json(saved) if saved else Progress(digest=job.phases[0].digest)
    if progress.finished:
        return progress
    bound = job.phases[progress.phase]
    optimizer = make_optimizer(bound, job.config.optimizer)
    state = initial_state(
        variables,
        optimizer,
        bound.trainable,
        measured=bound.probe is not None,
        averaged=job.ema is not None,
    )
    compiled: dict[Any, Any] = {}
    if saved:
        state = checkpoints.restore_last(state, bound.digest)
        print(f"resumed at step {progress.step} in phase {bound.phase.name!r}", flush=True)
    log = EventLog(log_path, sum(job.lengths), resume_step=progress.step)
    try:
        while True:
            state, progress = _run_phase(job, variables, state, progress, checkpoints, log, compiled)
            if progress.phase + 1 == len(job.phases):
                break
            state, progress = _next_phase(job, state, progress)
            if isinstance(job.after, WiseFT) and progress.phase + 1 == len(job.phases):
                checkpoints.save_start(progress.step, state.variables)
            checkpoints.save_last(state, dataclasses.asdict(progress))
        progress = replace(progress, finished=True)
        checkpoints.save_last(state, dataclasses.asdict(progress))
        checkpoints.wait()
    finally:
        log.close()
    return progress


def _next_phase(job: Job, state: TrainState, progress: Progress) -> tuple[TrainState, Progress]:
    """Hands the parameters over and builds the optimizer state of the next phase."""
    bound = job.phases[progress.phase + 1]
    optimizer = make_optimizer(bound, job.config.optimizer)
    train, _ = split(state.params, bound.trainable)
    progress = replace(
        progress,
        phase=progress.phase + 1,
        phase_start=progress.step,
        digest=bound.digest,
        bad=0,
        plateau=Plateau(),
    )
    opt_state = carry_over(state.opt_state, bound, optimizer.init(train))
    multipliers = ones(train, bound.probe is not None)
    state = replace(state, opt_state=opt_state, multipliers=multipliers)
    return (start_average(state, bound.trainable) if job.ema is not None else state), progress


def _run_phase(
    job: Job,
    variables: Variables,
    state: TrainState,
    progress: Progress,
    checkpoints: Checkpoints,
    log: EventLog,
    executables: dict[Any, tuple[Callable[..., Any], float]],
) -> tuple[TrainState, Progress]:
    bound, config = job.phases[progress.phase], job.config
    length = job.lengths[progress.phase]
    optimizer = make_optimizer(bound, config.optimizer)
    began, counted = time.perf_counter(), progress.step
    feed = job.feed(bound, {"params": state.params, "batch_stats": state.batch_stats})
    parts = (job.network, bound, optimizer, job.loss, feed.prepare, job.keys_of, feed.after)
    step = make_train_step(*parts, mix=job.mix, ema=job.ema, seed=config.seed)
    measured = bound.probe is not None and bound.probe.probe.refresh == "epoch"
    measure = make_measure(*parts) if measured else None
    constants = anchor(bound, variables) | (job.constants if bound.features else {})
    fixed = (constants,) if constants else ()
    top_rate = config.optimizer.lr * (bound.phase.lr or 1.0)
    rates = learning_rates(config.schedule, top_rate, length)
    stop = progress.phase_start + length
    compiled: Callable[..., Any] | None = None
    losses: list[tuple[int, dict[str, Any]]] = []

    for batch in feed.batches(progress.step, stop):
        if measure is not None and (
            progress.step == progress.phase_start or _crosses(progress.step, job.steps_per_epoch)
        ):
            ahead = progress.step + bound.probe.probe.batches  # type: ignore[union-attr]
            state = measure(state, feed.batches(progress.step, ahead))
        if compiled is None:
            key = _step_key(bound, feed.after)
            if key not in executables:
                executables[key] = compile_step(step, state, batch, *fixed)
            compiled, flops = executables[key]
            known = progress.flops_per_step[: progress.phase]
            progress = replace(progress, flops_per_step=(*known, flops))
            began_steps = time.perf_counter()
            progress = replace(progress, seconds=progress.seconds + began_steps - began)
            began, counted = began_steps, progress.step
        rate = rates[progress.step - progress.phase_start] * np.float32(progress.plateau.scale)
        state, measured = compiled(state, batch, jnp.float32(rate), *fixed)
        progress = replace(progress, step=progress.step + 1)
        losses.append((progress.step, measured))
        last = progress.step == stop
        evaluate = last or _crosses(progress.step, job.eval_every)
        log_now = _crosses(progress.step, config.log_every_steps)
        if evaluate or log_now or len(losses) >= config.nan_check_steps:
            newest = _check_finite(losses)
            losses = []
            now = time.perf_counter()
            speed = (progress.step - counted) * config.data.batch_size / max(now - began, 1e-9)
            progress = replace(progress, seconds=progress.seconds + now - began)
            began, counted = now, progress.step
            if evaluate or log_now:
                log.event(
                    step=progress.step,
                    epoch=round(progress.step / job.steps_per_epoch, 4),
                    phase=bound.phase.name,
                    loss=newest["loss"],
                    gradient_norm=newest["gradient_norm"],
                    **({"penalty": newest["penalty"]} if "penalty" in newest else {}),
                    lr=float(rate),
                    img_per_s=round(speed, 2),
                )
        if evaluate:
            progress, ended = _evaluate(job, feed, state, progress, top_rate, checkpoints, log)
            now = time.perf_counter()
            progress = replace(progress, seconds=progress.seconds + now - began)
            began = now
            if not last:
                checkpoints.save_last(state, dataclasses.asdict(progress))
            if ended:
                break
            if not last and progress.step >= job.pause_at:
                raise Paused(f"paused at step {progress.step}")
    return state, progress


def _step_key(bound: LabelledPhase, after: str | None) -> tuple[Any, ...]:
    """What a phase's compiled step depends on: two phases that agree on it share one."""
    probe = bound.probe.probe if bound.probe is not None else None
    scales = tuple(bound.scales.items())
    return bound.digest, bound.still, scales, bound.pulls, bound.features, bound.stochastic, probe, after


def _crosses(step: int, every: float) -> bool:
    """Whether a multiple of `every` lies in the step that ends at `step`."""
    return math.floor(step / every + 1e-9) > math.floor((step - 1) / every + 1e-9)


def _evaluate(
    job: Job,
    feed: Feed,
    state: TrainState,
    progress: Progress,
    top_rate: float,
    checkpoints: Checkpoints,
    log: EventLog,
) -> tuple[Progress, bool]:
    """Validates, keeps the best, and says whether the phase ends here."""
    config = job.config
    variables = state.variables
    scores = feed.validate(variables)
    if isinstance(job.after, Soup) and progress.phase + 1 == len(job.phases):
        checkpoints.save_ingredient(progress.step, variables, job.after.last)
    log.event(
        split="val",
        step=progress.step,
        epoch=round(progress.step / job.steps_per_epoch, 4),
        **{name: value for name, value in scores.items() if name not in ("per_class", "confusion")},
    )
    figure = selected(scores, config.select)
    if progress.best is None or figure > progress.best:
        checkpoints.save_best(progress.step, variables)
        progress = replace(progress, best=figure, best_step=progress.step, bad=0)
    else:
        progress = replace(progress, bad=progress.bad + 1)
    ended = 0 < config.early_stop.patience <= progress.bad
    if config.schedule.name == "plateau":
        plateau = progress.plateau.update(scores["loss"], config.schedule.factor, config.schedule.patience)
        progress = replace(progress, plateau=plateau)
        ended |= top_rate * plateau.scale < config.schedule.min_lr
    return progress, ended


def selected(scores: dict[str, Any], name: str) -> float:
    """The figure by which weights are chosen, higher being better."""
    if scores[name] is None or name == "loss":  # where it cannot be scored on this split, the loss can
        return -scores["loss"]
    return scores[name]


def _check_finite(losses: list[tuple[int, dict[str, Any]]]) -> dict[str, float]:
    """Waits for the device, and looks at every loss since the last look."""
    measured = [
        (step, {name: float(value) for name, value in values.items()})
        for step, values in jax.device_get(losses)
    ]
    for step, values in measured:
        for name, value in values.items():
            if not math.isfinite(value):
                raise DivergedError(
                    f"{name.replace('_', ' ')} is {value} at step {step}: training stopped, the last "
                    "good checkpoint stays; lower optimizer.lr or set optimizer.clip=1.0"
                )
    return measured[-1][1]
