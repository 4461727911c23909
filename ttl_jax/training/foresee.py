"""The programs of a run that may come next, made while another one trains."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax

from ttl_jax import strategies
from ttl_jax.data.dataset import Dataset
from ttl_jax.strategies.average import Ema
from ttl_jax.system.preemption import Notice
from ttl_jax.training import devices
from ttl_jax.training.batch_statistics import estimate_of
from ttl_jax.training.build import build_shapes
from ttl_jax.training.feeding import Feeding
from ttl_jax.training.frozen.inputs import Inputs
from ttl_jax.training.frozen.store import FeatureStore
from ttl_jax.training.job import job_of, mix_of
from ttl_jax.training.loop import begin_phase
from ttl_jax.training.optimizer import make_optimizer
from ttl_jax.training.programs import Programs
from ttl_jax.training.state import initial_state


def foresee(
    config: Any,
    workdir: Path,
    datasets: Mapping[str, Dataset],
    programs: Programs,
    features: FeatureStore | None = None,
) -> None:
    """Has threads make what a run needs for its first phase: its step, and the program that validates it.

    Nothing of the run is written, and no weights are drawn; of a file of weights only how it wants images is
    looked at. A first phase that needs values
    before its step can be traced (penalties towards the start, measured rates, a solved head), or several
    devices, is left to the run.

    Args:
        config, workdir, datasets, features: as `train` will be given them.
        programs: the same.
    """
    programs.foresee(config, partial(_begin, config, workdir, datasets, features))


def _begin(
    config: Any,
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
    if any(item.features for item in bound) or first.pulls or first.probe or first.phase.solver is not None:
        return
    mix = mix_of(config, strategy, layout, classes)
    inputs = Inputs(config, network, preprocessing, datasets, programs, features, workdir)
    feeding = Feeding(inputs, layout, Notice(), config.cache_features and not mix)
    optimizer = make_optimizer(first, config.optimizer)
    options = {
        "averaged": isinstance(strategy.after, Ema),
        "counted": estimate_of(config.model).corrected,
    }
    state = jax.eval_shape(
        lambda variables: initial_state(variables, optimizer, first.trainable, **options), shapes
    )
    begin_phase(job_of(feeding, bound, mix, {}, strategy.after), first, state, feeding.one_batch(), dict)
