"""The loop: phases in order, validation, best and last checkpoint, early stop, resume, leaving."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from ttl_jax.data.dataset import Dataset
from ttl_jax.errors import UserError
from ttl_jax.evaluation.selection import Merit, merit
from ttl_jax.models import Network
from ttl_jax.strategies import LabelledPhase
from ttl_jax.strategies.average import After, Ema, Soup, WiseFT
from ttl_jax.system.host import release_memory
from ttl_jax.system.preemption import Notice, Preempted
from ttl_jax.training.batch_statistics import Estimate, estimate_of
from ttl_jax.training.calls import in_calls
from ttl_jax.training.constants import Constants, anchor, weights
from ttl_jax.training.devices import ONE, Layout
from ttl_jax.training.frozen.inputs import Frozen
from ttl_jax.training.heads.solve import solve
from ttl_jax.training.loss import Loss
from ttl_jax.training.measure import make_measure
from ttl_jax.training.optimizer import carry_over, gain, make_optimizer
from ttl_jax.training.programs import Programs
from ttl_jax.training.records.checkpoint import Checkpoints
from ttl_jax.training.records.log import EventLog
from ttl_jax.training.records.loggers import Logger
from ttl_jax.training.schedule import Plateau, learning_rates, peak_rate
from ttl_jax.training.state import (
    TrainState,
    initial_state,
    join,
    ones,
    split,
    start_average,
    with_statistics,
    with_variables,
)
from ttl_jax.training.step import Batch, Mix, Prepare, compile_step, in_one_call, make_train_step
from ttl_jax.typing import Variables

AHEAD = 2  # calls that the host may be ahead of the device: a stop waits for no more than these


class DivergedError(RuntimeError):
    """The loss or the gradient stopped being a number."""


class Paused(Exception):
    """The run has reached the step where it was asked to pause; the same run goes on from there."""


@dataclass
class Pause:
    """Where a run is to pause: at the first validation from there on.

    Attributes:
        after: share of all steps.
        go_on: asked there: the next such share, or None to pause.
    """

    after: float = math.inf
    go_on: Callable[[], float | None] = lambda: None

    def reached(self, step: int) -> None:
        """Asks whether to go on.

        Raises:
            Paused: not now.
        """
        further = self.go_on()
        if further is None:
            raise Paused(f"paused at step {step}")
        self.after = further


@dataclass(frozen=True)
class Outline:
    """What a phase's step depends on of its batches: known before they are there.

    Attributes:
        prepare: from a batch's "image" to what the network takes.
        image: () -> shape and type of one image, or of the outputs of frozen units for one.
        frozen: what is computed once, where something is.
        still: units whose BatchNorm statistics do not move.
    """

    prepare: Prepare
    image: Callable[[], jax.ShapeDtypeStruct]
    frozen: Frozen | None = None
    still: tuple[str, ...] = ()

    @property
    def after(self) -> str | None:
        """The unit whose outputs the batches hold instead of images, if any."""
        return self.frozen.stand_in.after if self.frozen is not None else None


@dataclass(frozen=True)
class Feed:
    """What a phase trains on and is validated by.

    Attributes:
        batches: (start, stop) -> training batches of these steps.
        validate: variables -> scores.
        train: the training split, of images or the outputs of frozen units.
        estimated: variables -> the same with the BatchNorm statistics that are validated and kept.
    """

    batches: Callable[[int, int], Iterator[Batch]]
    validate: Callable[[Variables], dict[str, Any]]
    train: Dataset
    estimated: Callable[[Variables], Variables] = lambda variables: variables


@dataclass(frozen=True)
class Job:
    """What the loop needs, already built: no config is looked up by name in here but its numbers."""

    config: Any
    network: Network
    phases: tuple[LabelledPhase, ...]
    lengths: tuple[int, ...]
    loss: Loss
    keys_of: Callable[[Batch], Any]
    outline: Callable[[LabelledPhase, Variables], Outline]
    feed: Callable[[Outline, Variables], Feed]
    # (outline, variables, one image) -> what begins to compile the validation of such a phase
    ahead: Callable[[Outline, Variables, jax.ShapeDtypeStruct], Callable[[], None]]
    steps_per_epoch: float
    eval_every: float  # steps between validations; need not be whole
    constants: Constants = field(default_factory=dict)  # of the feature penalties
    after: After | None = None  # decides what is kept besides the best
    mix: Mix | None = None  # MixUp, CutMix
    pause: Pause = field(default_factory=Pause)
    began: Callable[[], object] = lambda: None  # called when a phase's steps begin
    notice: Notice = field(default_factory=Notice)  # whether the process was asked to stop
    layout: Layout = ONE
    programs: Programs = field(default_factory=Programs)  # compiled before, by this run or one like it
    loggers: Sequence[Logger] = ()  # take the events besides metrics.jsonl
    names: Callable[[Any], list[str]] | None = None  # positions of training examples -> their ids

    @property
    def ema(self) -> float | None:
        """The decay of the moving average, where one is kept."""
        return self.after.decay if isinstance(self.after, Ema) else None

    @property
    def estimate(self) -> Estimate:
        """How BatchNorm's running statistics are estimated."""
        return estimate_of(self.config.model)


@dataclass(frozen=True)
class Progress:
    """Where a run stands; saved beside the state as JSON."""

    step: int = 0
    phase: int = 0
    phase_start: int = 0
    digest: str = ""
    best: Merit | None = None  # of the weights to keep; None where they are looked for anew
    best_step: int = 0
    best_phase: int | None = None
    peak: Merit | None = None  # the best of this phase
    bad: int = 0  # validations since then
    plateau: Plateau = field(default_factory=Plateau)
    seconds: float = 0.0
    flops_per_step: tuple[float, ...] = ()
    finished: bool = False
    due: bool = False  # the validation at this step is still to be done: the run was stopped within it
    skipped: int = 0  # steps whose loss or gradient was no number and that changed nothing
    together: int = 1  # runs that were trained as one program; `seconds` is this one's share

    def scored(self, now: Merit) -> Progress:
        """After a validation.

        Of equal merits the later is kept, and counts as `bad` all the same: nothing was gained.
        """
        found = replace(self, bad=self.bad + 1)
        if self.peak is None or now > self.peak:
            found = replace(self, peak=now, bad=0)
        if self.best is None or now >= self.best:
            found = replace(found, best=now, best_step=self.step, best_phase=self.phase)
        return found

    def next_phase(self, digest: str, select_phase: str) -> Progress:
        """At the start of the next phase, of these labels; with "last" its own best alone may be kept."""
        return replace(
            self,
            phase=self.phase + 1,
            phase_start=self.step,
            digest=digest,
            best=None if select_phase == "last" else self.best,
            peak=None,
            bad=0,
            plateau=Plateau(),
        )

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Progress:
        """Reads what `dataclasses.asdict` wrote."""
        if "peak" not in saved:  # by the version before, which kept a figure alone, the best of all phases
            best = None if saved["best"] is None else (saved["best"], -math.inf)
            phase = saved["phase"] if saved["best_step"] > saved["phase_start"] else None
            saved = {**saved, "best": best, "peak": best, "best_phase": phase}
        merits = {name: Merit(*saved[name]) for name in ("best", "peak") if saved[name] is not None}
        values = {**saved, **merits, "plateau": Plateau(**saved["plateau"])}
        return cls(**{**values, "flops_per_step": tuple(saved["flops_per_step"])})


@dataclass(frozen=True)
class _Course:
    """What stays the same through all phases of a run.

    Attributes:
        job: what is run.
        variables: the start, to which penalties are anchored.
        checkpoints: where the state is kept.
        log: of the events.
    """

    job: Job
    variables: Variables
    checkpoints: Checkpoints
    log: EventLog

    def leave(self, step: int) -> str:
        """Waits for the last save; returns what the user is told."""
        self.job.notice.saving = True
        self.checkpoints.wait()
        return f"{self.job.notice.reason}: saved at step {step}"


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
        Preempted: the job's notice asked to stop; all that was done is saved.
    """
    layout = job.layout
    saved = layout.json_from_first(checkpoints.progress)
    progress = Progress.from_json(saved) if saved else Progress(digest=job.phases[0].digest)
    if progress.finished:
        return progress
    if saved and "peak" not in saved and len(job.phases) > 1:
        raise UserError(
            f"{log_path.parent} holds a run of several phases that an earlier version of ttl_jax began, "
            "which chose among all of them: finish it with that version, or start it again with --fresh"
        )
    bound = job.phases[progress.phase]
    optimizer = make_optimizer(bound, job.config.optimizer)
    state = initial_state(
        variables,
        optimizer,
        bound.trainable,
        measured=bound.probe is not None,
        averaged=job.ema is not None,
        counted=job.estimate.corrected,
    )
    if saved:
        template = state
        state = layout.from_first(lambda: checkpoints.restore_last(template, bound.digest), template)
        print(f"resumed at step {progress.step} in phase {bound.phase.name!r}", flush=True)
    log = EventLog(
        log_path,
        sum(job.lengths),
        resume_step=progress.step,
        silent=not layout.first,
        loggers=job.loggers,
    )
    course = _Course(job, variables, checkpoints, log)
    state = layout.place_state(state)
    try:
        while True:
            solved = job.phases[progress.phase].phase.solver is not None
            phase = _solve_phase if solved else _run_phase
            state, progress = phase(course, state, progress)
            if progress.phase + 1 == len(job.phases):
                break
            whole = layout.whole(state)
            if job.config.hand_over == "best":
                whole = with_variables(whole, restore_best(job, checkpoints, variables, progress.best_step))
            whole, progress = _next_phase(job, whole, progress)
            if isinstance(job.after, WiseFT) and progress.phase + 1 == len(job.phases):
                checkpoints.save_start(progress.step, whole.variables)
            checkpoints.save_last(whole, dataclasses.asdict(progress))
            state = layout.place_state(whole)
            if job.notice.asked():
                raise Preempted(course.leave(progress.step))
        progress = replace(progress, finished=True)
        checkpoints.save_last(layout.whole(state), dataclasses.asdict(progress))
        checkpoints.wait()
    finally:
        log.close()
    return progress


def restore_best(job: Job, checkpoints: Checkpoints, variables: Variables, step: int) -> Variables:
    """The weights and statistics that a validation found best, in every process.

    Args:
        job: that was run.
        checkpoints: of it.
        variables: of their shapes.
        step: of the validation.
    """
    shapes = {"params": variables["params"], "batch_stats": variables["batch_stats"]}
    return job.layout.from_first(lambda: checkpoints.restore_best(shapes, step)[0], shapes)


def _next_phase(job: Job, state: TrainState, progress: Progress) -> tuple[TrainState, Progress]:
    """Hands the parameters over and builds the optimizer state of the next phase."""
    bound = job.phases[progress.phase + 1]
    optimizer = make_optimizer(bound, job.config.optimizer)
    train, _ = split(state.params, bound.trainable)
    progress = progress.next_phase(bound.digest, job.config.select_phase)
    opt_state = carry_over(state.opt_state, bound, optimizer.init(train))
    multipliers = ones(train, bound.probe is not None)
    state = replace(state, opt_state=opt_state, multipliers=multipliers)
    return (start_average(state, bound.trainable) if job.ema is not None else state), progress


def _run_phase(course: _Course, state: TrainState, progress: Progress) -> tuple[TrainState, Progress]:
    job, checkpoints, log = course.job, course.checkpoints, course.log
    bound, config = job.phases[progress.phase], job.config
    length = job.lengths[progress.phase]
    began, counted = time.perf_counter(), progress.step
    layout = job.layout
    now = layout.whole(state)
    trained = {"params": now.params, "batch_stats": now.batch_stats}
    outline = job.outline(bound, trained)
    feed = job.feed(outline, trained)
    shapes = jax.eval_shape(lambda: trained)
    del now, trained
    measured = bound.probe is not None and bound.probe.probe.refresh == "epoch"
    key = step_key(bound, outline.after)
    measure = (
        job.programs.get(("measure", *key), lambda: make_measure(*_parts(job, bound, outline)))
        if measured
        else None
    )
    constants = _constants(course, bound)
    fixed = (constants,) if constants else ()
    top_rate = peak_rate(bound.phase, config.optimizer.lr)
    rates = learning_rates(config.schedule, top_rate, length)
    stop = progress.phase_start + length
    compiled: Callable[..., Any] | None = None
    losses: list[Measured] = []
    saved_at = time.perf_counter()
    reestimated: Any = None  # statistics of the last validation, where they are not the state's own

    def validated(progress: Progress) -> tuple[Progress, bool]:
        """Validates; a stop meanwhile saves the state with the validation still due."""
        nonlocal reestimated
        try:
            shown = layout.whole(state)
            if job.estimate.batches:
                shown = with_statistics(shown, feed.estimated(shown.variables)["batch_stats"])
                reestimated = shown.batch_stats
            found, ended = _evaluate(course, feed, shown, progress, top_rate)
        except Preempted:
            save_last(replace(progress, due=True))
            raise Preempted(course.leave(progress.step)) from None
        return replace(found, due=False), ended

    def save_last(progress: Progress) -> None:
        checkpoints.save_last(layout.whole(state), dataclasses.asdict(progress))

    def handed_over() -> TrainState:
        """The state at the end, with what was estimated anew for validation: a unit that will be still
        keeps it for good. No step before sees it, so that training does not depend on how often it is
        validated."""
        if reestimated is None:
            return state
        return layout.place_state(replace(layout.whole(state), batch_stats=reestimated))

    if progress.due:
        progress, ended = validated(progress)
        if ended:
            return handed_over(), progress

    def awaited(step: int) -> bool:
        """Whether the host has something to do once so many steps are done."""
        looked_at = step == stop or crosses(step, job.eval_every) or crosses(step, config.log_every_steps)
        return looked_at or (measure is not None and crosses(step, job.steps_per_epoch))

    batches = feed.batches(progress.step, stop)
    for group in in_calls(batches, progress.step, config.parallel.steps_per_call, awaited):
        if measure is not None and (
            progress.step == progress.phase_start or crosses(progress.step, job.steps_per_epoch)
        ):
            ahead = progress.step + bound.probe.probe.batches  # type: ignore[union-attr]
            try:
                few = job.notice.polled(feed.batches(progress.step, ahead))
                state = layout.place_state(measure(layout.whole(state), map(layout.split, few)))
            except Preempted:  # the state is as it was: the next start measures again
                save_last(progress)
                raise Preempted(course.leave(progress.step)) from None
        placed = tuple(map(layout.place_batch, group))
        if compiled is None:
            # Both programs are there sooner where the second is traced while XLA is at work on the first.
            images = placed[0]["image"]
            one = jax.ShapeDtypeStruct(images.shape[1:], images.dtype)
            begin_validation = job.ahead(outline, shapes, one)
            compiled, flops = job.programs.get(
                ("step", *key),
                partial(_compile, job, bound, outline, state, placed[0], constants, lowered=begin_validation),
            )
            _compile_ahead(course, state, progress, placed[0])
            job.began()
            known = progress.flops_per_step[: progress.phase]
            progress = replace(progress, flops_per_step=(*known, flops))
            began_steps = time.perf_counter()
            progress = replace(progress, seconds=progress.seconds + began_steps - began)
            began, counted = began_steps, progress.step
        done = progress.step - progress.phase_start
        now_rates = (rates[done : done + len(group)] * np.float32(progress.plateau.scale)).astype(np.float32)
        if len(group) == 1:
            state, measured = compiled(state, placed[0], now_rates[0], *fixed)
        else:
            several, _ = job.programs.get(
                ("steps", len(group), *key),
                partial(_compile, job, bound, outline, state, placed, constants, now_rates),
            )
            state, measured = several(state, placed, now_rates, *fixed)
        progress = replace(progress, step=progress.step + len(group))
        losses.append((progress.step, measured, [batch["example"] for batch in group]))
        if len(losses) > AHEAD:
            jax.block_until_ready(losses[-1 - AHEAD][1])
        last = progress.step == stop
        evaluate = last or crosses(progress.step, job.eval_every)
        log_now = crosses(progress.step, config.log_every_steps)
        leave = job.notice.asked()
        due = time.perf_counter() - saved_at > 60 * config.save_every_minutes
        save = leave or (due and not layout.several)  # clocks differ between processes
        if evaluate or log_now or save or progress.step - counted >= config.nan_check_steps:
            newest, skipped = _check_finite(course, losses, config.nan_skip - progress.skipped)
            progress = replace(progress, skipped=progress.skipped + skipped)
            losses = []
            now = time.perf_counter()
            speed = (progress.step - counted) * config.data.batch_size / max(now - began, 1e-9)
            progress = replace(progress, seconds=progress.seconds + now - began)
            began, counted = now, progress.step
            if (evaluate or log_now) and newest is not None:
                where = progress.step, job.steps_per_epoch, bound.phase.name
                log.event(**train_event(*where, newest, float(now_rates[-1]), speed))
        if evaluate or save:
            release_memory()  # the step's: copies and validation may need as much
        if evaluate:
            progress, ended = validated(progress)
            release_memory()
            now = time.perf_counter()
            progress = replace(progress, seconds=progress.seconds + now - began)
            began = now
        pause = evaluate and progress.step >= job.pause.after * sum(job.lengths)
        if evaluate:  # several processes must agree, and their clocks differ
            save |= layout.several or ended or pause or checkpoints.affordable()
        if save and not last:
            save_last(progress)
            saved_at = time.perf_counter()
        if evaluate:
            if ended:
                break
            if pause and not last:
                job.pause.reached(progress.step)
        if leave and not last:
            raise Preempted(course.leave(progress.step))
    return handed_over(), progress


def _parts(job: Job, bound: LabelledPhase, outline: Outline) -> tuple[Any, ...]:
    """What a phase's programs are made of."""
    optimizer = make_optimizer(bound, job.config.optimizer)
    return job.network, bound, optimizer, job.loss, outline.prepare, job.keys_of, outline.after


def _constants(course: _Course, bound: LabelledPhase) -> Constants:
    """What a phase's penalties need besides the batch, placed."""
    features = course.job.constants if bound.features else {}
    return course.job.layout.replicate(anchor(bound, course.variables) | weights(bound) | features)


def _compile(
    job: Job,
    bound: LabelledPhase,
    outline: Outline,
    state: Any,
    batch: Any,
    constants: Constants,
    rates: np.ndarray | None = None,
    lowered: Callable[[], None] = lambda: None,
) -> tuple[Callable[..., Any], float]:
    """Compiles a phase's step for a placed state and batch, or for their outlines.

    With several batches and their rates, all their steps in one call. `lowered` is called as
    `Layout.compile` does.
    """
    step = make_train_step(
        *_parts(job, bound, outline),
        mix=job.mix,
        ema=job.ema,
        skip=job.config.nan_skip > 0,
        gain=gain(job.config.optimizer),
        layout=job.layout,
        estimate=job.estimate,
    )
    step = in_one_call(step) if rates is not None else step
    return compile_step(step, state, batch, constants or None, job.layout, rates, lowered)


def _compile_ahead(course: _Course, state: TrainState, progress: Progress, batch: Batch) -> None:
    """Begins to compile the next phase's step, while this phase trains.

    Args:
        course: of the run.
        state: of this phase, placed.
        progress: within this phase.
        batch: of this phase, placed.
    """
    job = course.job
    if progress.phase + 1 == len(job.phases) or not job.layout.foresees:
        return
    bound = job.phases[progress.phase + 1]
    if bound.phase.solver is not None:
        return
    after = jax.eval_shape(lambda state: _next_phase(job, state, progress)[0], state)
    begin_phase(job, bound, after, batch, partial(_constants, course, bound))


def begin_phase(
    job: Job, bound: LabelledPhase, state: TrainState, batch: Batch, constants: Callable[[], Constants]
) -> None:
    """Begins to compile, in threads, a phase's step and what validates it.

    Args:
        job: of the run.
        bound: the phase.
        state: at its start; shapes alone matter.
        batch: of any phase, placed; shapes alone matter, and the image's not even they.
        constants: what the phase's penalties need, made in the thread.
    """
    outline = job.outline(bound, {"params": state.params, "batch_stats": state.batch_stats})
    one = outline.image()
    shapes = job.layout.outline_of_state(state), job.layout.outline_of_batch(batch, one)
    begin_validation = job.ahead(outline, state.variables, one)

    def make() -> tuple[Callable[..., Any], float]:
        return _compile(job, bound, outline, *shapes, constants(), lowered=begin_validation)

    job.programs.begin(("step", *step_key(bound, outline.after)), make)


def _solve_phase(course: _Course, state: TrainState, progress: Progress) -> tuple[TrainState, Progress]:
    """A phase whose head is solved for; it counts as all its steps."""
    job, log = course.job, course.log
    bound, length, began = job.phases[progress.phase], job.lengths[progress.phase], time.perf_counter()
    if not job.layout.plain:
        raise UserError(f"phase {bound.phase.name!r} is solved on one device: set parallel.devices=1")
    outline = job.outline(bound, state.variables)
    feed = job.feed(outline, state.variables)
    found = solve(
        job.network,
        bound,
        state,
        feed.train,
        outline.after,
        job.loss,
        lambda variables: merit(feed.validate(variables), job.config.select),
    )
    _, frozen = split(state.params, bound.trainable)
    solved = {"params": join(found.head, frozen), "batch_stats": state.batch_stats}
    state = replace(with_variables(state, solved), step=state.step + length)  # its average starts anew there
    progress = replace(
        progress,
        step=progress.step + length,
        flops_per_step=(*progress.flops_per_step[: progress.phase], found.flops / length),
        seconds=progress.seconds + time.perf_counter() - began,
    )
    speed = length * job.config.data.batch_size / max(time.perf_counter() - began, 1e-9)
    figures = {"loss": found.loss, "l2": found.l2, "iterations": found.iterations}
    where = progress.step, job.steps_per_epoch, bound.phase.name
    log.event(**train_event(*where, figures, 0.0, speed))
    progress, _ = _evaluate(course, feed, state, progress, 0.0)
    return state, progress


def step_key(bound: LabelledPhase, after: str | None) -> tuple[Any, ...]:
    """What a phase's compiled step depends on: two phases that agree on it share one."""
    probe = bound.probe.probe if bound.probe is not None else None
    scales = tuple(bound.scales.items())
    return bound.digest, bound.still, scales, bound.pulls, bound.features, bound.stochastic, probe, after


def train_event(
    step: int, per_epoch: float, phase: str | None, figures: Mapping[str, float], rate: float, speed: float
) -> dict[str, Any]:
    """A line of metrics.jsonl about a training step; `figures` are its loss and what goes with it."""
    return {
        "step": step,
        "epoch": round(step / per_epoch, 4),
        "phase": phase,
        "loss": figures["loss"],
        **figures,
        "lr": rate,
        "img_per_s": round(speed, 2),
    }


def val_event(step: int, per_epoch: float, phase: str | None, scores: Mapping[str, Any]) -> dict[str, Any]:
    """A line of metrics.jsonl about a validation."""
    kept = {name: value for name, value in scores.items() if name not in ("per_class", "confusion")}
    return {"split": "val", "step": step, "epoch": round(step / per_epoch, 4), "phase": phase, **kept}


def crosses(step: int, every: float) -> bool:
    """Whether a multiple of `every` lies in the step that ends at `step`."""
    return math.floor(step / every + 1e-9) > math.floor((step - 1) / every + 1e-9)


def _evaluate(
    course: _Course, feed: Feed, state: TrainState, progress: Progress, top_rate: float
) -> tuple[Progress, bool]:
    """Validates, keeps the best, and says whether the phase ends here."""
    job, config, checkpoints = course.job, course.job.config, course.checkpoints
    variables = state.variables
    scores = feed.validate(variables)
    if isinstance(job.after, Soup) and progress.phase + 1 == len(job.phases):
        checkpoints.save_ingredient(progress.step, variables, job.after.last)
    phase = job.phases[progress.phase].phase.name
    course.log.event(**val_event(progress.step, job.steps_per_epoch, phase, scores))
    progress = progress.scored(merit(scores, config.select))
    if progress.best_step == progress.step:
        checkpoints.save_best(progress.step, variables)
    ended = 0 < config.early_stop.patience <= progress.bad
    if config.schedule.name == "plateau":
        plateau = progress.plateau.update(scores["loss"], config.schedule.factor, config.schedule.patience)
        progress = replace(progress, plateau=plateau)
        ended |= top_rate * plateau.scale < config.schedule.min_lr
    return progress, ended


# The last step of a call, the figures of its steps, and of each step the positions of its examples.
Measured = tuple[int, dict[str, Any], list[Any]]
NAMED = 8  # examples of a bad batch in the message; all of them are in nonfinite.json


def _one_by_one(losses: list[Measured]) -> Iterator[tuple[int, dict[str, float], Any]]:
    """Each step with its figures and the positions of its examples."""
    for last, found, examples in losses:
        # Under pmap there is one row of figures a device, all the same.
        figures = {
            name: np.reshape(value, (-1, len(examples)))[0] for name, value in jax.device_get(found).items()
        }
        for place, positions in enumerate(examples):
            values = {name: float(row[place]) for name, row in figures.items()}
            yield last - len(examples) + 1 + place, values, positions


def _check_finite(
    course: _Course, losses: list[Measured], allowed: int
) -> tuple[dict[str, float] | None, int]:
    """Waits for the device, and looks at every loss since the last look.

    Returns:
        (figures of the newest step that had finite ones, steps that were skipped).

    Raises:
        DivergedError: naming the step and its examples, where more than `allowed` are not finite.
    """
    job, log = course.job, course.log
    newest, skipped = None, 0
    for step, values, examples in _one_by_one(losses):
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if not bad:
            newest = values
            continue
        skipped += 1
        what = f"{bad[0].replace('_', ' ')} is {values[bad[0]]} at step {step}"
        names = job.names(np.asarray(examples)) if job.names is not None else []
        log.nonfinite(step, values, names)
        shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
        if skipped > allowed:
            raise DivergedError(
                f"{what} (examples {shown}; all of them: {log.folder / 'nonfinite.json'}): training stopped, "
                f"the last good checkpoint stays under {log.folder / 'checkpoints'}; lower optimizer.lr, set "
                "optimizer.clip=1.0, or allow some such steps to change nothing with nan_skip"
            )
        print(f"{what}: skipped, {allowed - skipped} more may be (examples {shown})", flush=True)
    return newest, skipped
