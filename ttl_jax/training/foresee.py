"""The programs of a run that may come next, made while another one trains."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import jax

from ttl_jax import strategies
from ttl_jax.config import RunConfig
from ttl_jax.data.dataset import Dataset
from ttl_jax.training import devices
from ttl_jax.training.build import build_shapes, lengths_of, loss_of, mix_of
from ttl_jax.training.compile_ahead import begin_phase
from ttl_jax.training.frozen.inputs import Inputs
from ttl_jax.training.frozen.store import FeatureStore
from ttl_jax.training.programs import Programs
from ttl_jax.training.records.checkpoint import Checkpoints
from ttl_jax.training.records.log import EventLog
from ttl_jax.training.session import Session
from ttl_jax.training.trainer import Trainer


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
        config, workdir, datasets, session: as `train` will be given them.
    """
    session.programs.foresee(config, partial(_begin, config, workdir, datasets, session.features))


def _begin(
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
