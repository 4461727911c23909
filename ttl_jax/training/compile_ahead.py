"""The programs of a phase, compiled when they are needed or, in threads, before.

A phase's step is compiled while the one before trains; what validates a phase, while XLA is at work on its
step; those of the run that may come next, while this one trains (`foresee`). `Programs` keeps them by the
phase itself: phases that are equal share one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ttl_jax import strategies
from ttl_jax.config import RunConfig
from ttl_jax.data.dataset import Dataset
from ttl_jax.strategies import LabelledPhase
from ttl_jax.system.placing import settle_memory
from ttl_jax.training import devices
from ttl_jax.training.build import build_shapes, lengths_of, loss_of, mix_of
from ttl_jax.training.devices import ONE, Layout
from ttl_jax.training.frozen.inputs import Inputs
from ttl_jax.training.frozen.phase_data import PhaseData
from ttl_jax.training.frozen.store import FeatureStore
from ttl_jax.training.optimizer import gain, make_optimizer
from ttl_jax.training.programs import Programs, Session
from ttl_jax.training.progress import Progress
from ttl_jax.training.records.checkpoints import Checkpoints
from ttl_jax.training.records.event_log import EventLog
from ttl_jax.training.state import TrainState
from ttl_jax.training.step import Batch, TrainStep, in_one_call
from ttl_jax.training.trainer import Trainer

Step = Callable[..., Any]
Measure = Callable[[TrainState, Iterable[Batch]], TrainState]


def step_of(
    trainer: Trainer,
    progress: Progress,
    data: PhaseData,
    state: TrainState,
    batch: Batch,
    constants: dict[str, Any],
) -> tuple[Step, float]:
    """The compiled step of a phase and its floating-point operations; begins what is needed next.

    Args:
        trainer: the run's trainer.
        progress: where the run stands within the phase.
        data: the phase's data.
        state: the phase's starting state, placed on its devices.
        batch: a batch of the phase, placed on its devices.
        constants: what the phase's penalties read besides the batch.
    """
    image = batch["image"]
    one = jax.ShapeDtypeStruct(image.shape[1:], image.dtype)
    # Both programs are there sooner where the second is traced while XLA is at work on the first.
    begin_validation = data.validation_begins(jax.eval_shape(lambda: state.trained), one)
    make = partial(_compile, trainer, data, state, batch, constants, lowered=begin_validation)
    compiled = trainer.session.programs.get(("step", data.bound, data.after), make)
    _begin_next_phase(trainer, progress, state, batch)
    return compiled


def steps_of(
    trainer: Trainer,
    data: PhaseData,
    state: TrainState,
    batches: tuple[Batch, ...],
    constants: dict[str, Any],
    rates: np.ndarray,
) -> Step:
    """The compiled program of several steps in one call."""
    make = partial(_compile, trainer, data, state, batches, constants, rates)
    return trainer.session.programs.get(("steps", len(batches), data.bound, data.after), make)[0]


def measure_of(trainer: Trainer, data: PhaseData) -> Measure | None:
    """The program that measures learning rates, where the phase measures them at the start of an epoch."""
    part = data.bound.ahead
    if part is None:
        return None
    network, bound, *others = _parts(trainer, data)
    make = partial(part.make_measure, network, bound.trainable, *others)
    return trainer.session.programs.get(("measure", data.bound, data.after), make)


def begin_phase(
    trainer: Trainer,
    bound: LabelledPhase,
    state: TrainState,
    batch: Batch,
    constants: Callable[[], dict[str, Any]],
) -> None:
    """Begins to compile, in threads, a phase's step and what validates it.

    Args:
        trainer: the run's trainer.
        bound: the phase.
        state: the phase's starting state; only shapes are read.
        batch: a placed batch of any phase; only shapes are read, and of its "image" not even they.
        constants: returns what the phase's penalties read; called in the thread.
    """
    data = trainer.data(bound, state.trained)
    one = data.one()
    shapes = trainer.layout.outline_of_state(state), trainer.layout.outline_of_batch(batch, one)
    begin_validation = data.validation_begins(state.variables, one)

    def make() -> tuple[Step, float]:
        return _compile(trainer, data, *shapes, constants(), lowered=begin_validation)

    trainer.session.programs.begin(("step", data.bound, data.after), make)


def foresee(
    config: RunConfig,
    workdir: Path,
    datasets: Mapping[str, Dataset],
    session: Session,
) -> None:
    """Has threads make what a run needs for its first phase: its step, and the program that validates it.

    Nothing of the run is written, and no weights are drawn; of a file of weights only how it wants images is
    looked at. Where a part of the strategy needs values before a step can be traced, or on several
    devices, all is left to the run.

    Args:
        config, workdir, datasets, session: the arguments that `train` will be given.
    """
    session.programs.foresee(config, partial(_begin_run, config, workdir, datasets, session.features))


def _begin_run(
    config: RunConfig,
    workdir: Path,
    datasets: Mapping[str, Dataset],
    features: FeatureStore | None,
    programs: Programs,
) -> None:
    strategy = strategies.parse(config.strategy)
    layout = devices.make_layout(config.parallel, config.data.batch_size)
    if not layout.plain or strategy.keeps_source_head:
        return
    classes = len(datasets["train"].class_names)
    network, shapes, preprocessing = build_shapes(config, strategy, classes)
    bound = strategies.bind(strategy, shapes["params"], config.model.name)
    first = bound[0]
    if any(item.part.needs_values for phase in bound for item in phase.parts):
        return
    mix = mix_of(config, strategy, layout, classes)
    inputs = Inputs(
        config, network, preprocessing, datasets, workdir, Session(programs=programs, features=features),
        layout, config.cache_features and not mix,
    )  # fmt: skip
    training = datasets["train"]
    trainer = Trainer(
        inputs=inputs,
        strategy=strategy,
        phases=bound,
        lengths=lengths_of(config, bound, len(training) / config.data.batch_size),
        variables=shapes,
        loss=loss_of(config, training),
        constants={},
        mix=mix,
        checkpoints=Checkpoints(workdir, writes=False),
        log=EventLog(workdir / "metrics.jsonl", silent=True),
    )
    state = jax.eval_shape(partial(trainer.initial, first), shapes)
    begin_phase(trainer, first, state, inputs.one_batch(), dict)


def _begin_next_phase(trainer: Trainer, progress: Progress, state: TrainState, batch: Batch) -> None:
    """Begins to compile the next phase's step, while this phase trains."""
    if progress.phase + 1 == len(trainer.phases) or not trainer.layout.foresees:
        return
    bound = trainer.phases[progress.phase + 1]
    if bound.solver is not None:
        return
    after = jax.eval_shape(lambda state: trainer.next_phase(state, progress)[0], state)
    begin_phase(trainer, bound, after, batch, partial(trainer.constants_of, bound))


def _compile(
    trainer: Trainer,
    data: PhaseData,
    state: Any,
    batch: Any,
    constants: dict[str, Any],
    rates: np.ndarray | None = None,
    lowered: Callable[[], None] = lambda: None,
) -> tuple[Step, float]:
    """Compiles a phase's step for a placed state and batch, or for their outlines.

    With several batches and their rates, all their steps in one call. `lowered` is called as
    `Layout.compile` does.
    """
    step = TrainStep(
        *_parts(trainer, data),
        mix=trainer.mix,
        skip=trainer.config.nan_skip > 0,
        gain=gain(trainer.config.optimizer),
        layout=trainer.layout,
        estimate=trainer.estimate,
    )
    run = in_one_call(step) if rates is not None else step
    return compile_step(run, state, batch, constants or None, trainer.layout, rates, lowered)


def _parts(trainer: Trainer, data: PhaseData) -> tuple[Any, Any, Any, Any, Any, Any, str | None]:
    """Return all that a phase's programs are made of, in the order in which `TrainStep` takes it."""
    inputs, bound = trainer.inputs, data.bound
    optimizer = make_optimizer(bound, trainer.config.optimizer)
    return inputs.network, bound, optimizer, trainer.loss, data.prepare, inputs.keys_of, data.after


def compile_step(
    step: Callable[..., Any],
    state: TrainState,
    batch: Batch,
    constants: Mapping[str, Any] | None = None,
    layout: Layout = ONE,
    rates: np.ndarray | None = None,
    lowered: Callable[[], None] = lambda: None,
) -> tuple[Callable[..., Any], float]:
    """Compiles a step once for these shapes, donating the state; or, with their rates, several in one call.

    `lowered` is called as `Layout.compile` does.

    Returns:
        The executable, called as the step is (with the constants if there are any), and its
        floating-point operations (XLA's count, of all devices together).
    """
    rate = np.float32(0) if rates is None else rates
    fixed = (constants,) if constants else ()
    compiled = layout.compile(step, state, batch, rate, *fixed, lowered=lowered)
    settle_memory()
    return compiled
