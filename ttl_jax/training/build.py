"""From a config and a strategy to the network with its weights, the loss, and the length of each phase."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax import data, evaluation, models, strategies, weights
from ttl_jax.config import RunConfig
from ttl_jax.data.dataset import Dataset
from ttl_jax.errors import UserError
from ttl_jax.models import Network
from ttl_jax.strategies.parts import Start
from ttl_jax.training.devices import Layout
from ttl_jax.training.from_run import variables_from_run
from ttl_jax.training.kept import check_finished, is_run, preprocessing_of, read_kept
from ttl_jax.training.loss import Loss, loss_options, make_loss
from ttl_jax.training.records import provenance
from ttl_jax.training.records.checkpoints import Checkpoints
from ttl_jax.training.schedule import phase_lengths
from ttl_jax.training.start import restart, with_source_head, without_source_head
from ttl_jax.training.state import fresh
from ttl_jax.training.step import Mix
from ttl_jax.typing import Array, Variables
from ttl_jax.weights.initialise import template, unflatten


def build_model(
    config: RunConfig, strategy: strategies.Strategy, num_classes: int, class_names: Sequence[str] = ()
) -> tuple[models.Network, Variables, weights.Preprocessing]:
    """Creates the network after the strategy's surgery, with its weights and their preprocessing.

    Args:
        config: the run's config.
        strategy: the run's strategy.
        num_classes: outputs of the head.
        class_names: their names, by which the head of another run is kept.
    """
    surgery, source, size = strategy.surgery, config.model.weights, config.data.image_size
    network, shape = _network(config, strategy, num_classes)
    from_run = source != "none" and is_run(source)
    if from_run and strategy.keeps_source_head:
        raise UserError(f"cotuning needs the head of pretrained weights: model.weights={source} is a run")
    if source == "none" or surgery.init == "scratch":
        variables = weights.initialise(
            config.model.name, num_classes, seed=config.seed, **shape, image_size=size
        )
    else:
        if from_run:
            names = class_names or [str(number) for number in range(num_classes)]
            variables, report = variables_from_run(read_kept(source), config, shape, names)
            print(f"weights of {source}: its head {'is kept' if 'head' in report.loaded else 'starts fresh'}")
        else:
            variables, report = weights.load_with_report(
                source,
                config.model.name,
                num_classes=num_classes,
                partial=config.model.partial,
                seed=config.seed,
                image_size=size,
                **shape,
            )
        started_fresh = [unit for unit in report.fresh if unit != "head"]
        if started_fresh:
            print(f"units that start fresh: {', '.join(started_fresh)}", flush=True)
        variables = restart(variables, surgery.starts, config.model.name, config.seed)
    if strategy.keeps_source_head:
        variables = with_source_head(variables, source, config.model.name, network)
    return network, variables, preprocessing_of(config)


def build_shapes(
    config: RunConfig, strategy: strategies.Strategy, num_classes: int
) -> tuple[models.Network, Variables, weights.Preprocessing]:
    """Build what `build_model` builds with shapes in the place of weights, and no source head."""
    network, shape = _network(config, strategy, num_classes)
    preprocessing = preprocessing_of(config)
    leaves = template(
        config.model.name,
        num_classes,
        **shape,
        image_size=config.data.image_size,
        channels=preprocessing.channels,
    )
    return network, unflatten(leaves), preprocessing


def _network(
    config: RunConfig, strategy: strategies.Strategy, num_classes: int
) -> tuple[models.Network, dict[str, Any]]:
    """The network, and what of it the surgery decides."""
    shape = strategy.surgery.shape(config.model.name)
    shape["head"] = config.model.head or shape["head"]
    return models.create(config.model.name, num_classes, dtype=jnp.dtype(config.model.dtype), **shape), shape


def loss_of(config: RunConfig, training: Dataset) -> Loss:
    """The loss that the config names, with weights and frequencies counted on the training split."""
    weights = np.ones(len(training.class_names), np.float32)
    if config.data.class_weights == "balanced":
        weights = data.class_weights(training)
    options = loss_options(config.loss, training.task, lambda: jnp.asarray(data.frequencies(training)))
    return make_loss(training.task, jnp.asarray(weights), **options)


def lengths_of(
    config: RunConfig, bound: tuple[strategies.LabelledPhase, ...], steps_per_epoch: float
) -> tuple[int, ...]:
    """The steps of every phase."""
    total = config.total_steps or math.ceil(config.total_epochs * steps_per_epoch)
    return tuple(phase_lengths([item.phase for item in bound], total, steps_per_epoch))


def build_constants(
    phases: Sequence[strategies.LabelledPhase],
    network: models.Network,
    variables: Variables,
    training: Dataset,
    normalise: Callable[[Array], Array],
    batch_size: int,
) -> dict[str, Any]:
    """Measures what the parts of all phases read of the network as it starts.

    A function of weights, data and seed alone: a resumed run computes the same again.

    Args:
        phases: all of a run.
        network: after the strategy's surgery.
        variables: the weights that the network starts from.
        training: the training split, of images.
        normalise: uint8 images -> what the network takes.
        batch_size: images in a pass without gradients.

    Returns:
        {name: arrays}, with the starting variables as "source" where some part compares with them.
    """
    units = tuple(dict.fromkeys(unit for bound in phases for unit in bound.source))
    start = Start(network, variables, normalise, batch_size, units)
    constants: dict[str, Any] = {"source": jax.tree.map(fresh, dict(variables))} if units else {}
    for part in dict.fromkeys(item.part for bound in phases for item in bound.parts):
        if not set(part.reads) <= constants.keys():
            constants |= part.constants(start, training)
    return constants


def phase_constants(
    bound: strategies.LabelledPhase, variables: Variables, constants: dict[str, Any]
) -> dict[str, Any]:
    """Picks what the step of a phase is given besides its batch.

    Args:
        bound: the phase.
        variables: the weights that the run started from.
        constants: the result of `build_constants`.

    Returns:
        "anchor" {path: starting value}, "strengths" (of the parts, so that trials which differ in them
        alone compile to the same program), "source", and what the parts read by name; each only where
        something needs it.
    """
    start = strategies.flatten(variables["params"])
    given: dict[str, Any] = {}
    if bound.anchor:
        given["anchor"] = {path: fresh(start[path]) for path in bound.anchor}
    if bound.strengths:
        given["strengths"] = jnp.asarray(bound.strengths, jnp.float32)
    if bound.source:
        given["source"] = constants["source"]
    return given | {name: constants[name] for item in bound.parts for name in item.part.reads}


def mix_of(config: RunConfig, strategy: strategies.Strategy, layout: Layout, classes: int) -> Mix | None:
    """Return the mixing of a batch's images (MixUp, CutMix); None where the config asks for none.

    Raises:
        UserError: they cannot be, with this strategy or on these devices.
    """
    spec, rows = data.parse_mix(config.data.mix), layout.rows(config.data.batch_size)
    if not spec:
        return None
    for part in strategy.parts:
        if part.class_labels:
            name = type(part).__name__.lower()
            raise UserError(f"{name} needs one class an image, so data.mix must be 'none'")
    if layout.axis or layout.accumulate > 1 or rows.padded != config.data.batch_size:
        raise UserError(
            "data.mix pairs the images of a whole batch: it needs parallel.mode='jit', no accumulation and a "
            "batch that the devices divide"
        )
    return partial(data.mix, spec=spec, classes=classes)


@dataclass(frozen=True)
class Loaded:
    """The network of a run.

    Attributes:
        config: the run's config.
        network, preprocessing: both as the run built them.
        start: variables at step 0: pretrained, with a fresh head.
        best: the checkpoint that validation picked.
    """

    config: RunConfig
    network: Network
    preprocessing: weights.Preprocessing
    start: Variables
    best: Variables


def load_run(folder: Path) -> Loaded:
    """Builds a finished run's network again and restores its best checkpoint.

    Raises:
        UserError: the folder holds no finished run.
    """
    check_finished(folder, str(folder))
    config = provenance.begun_with(folder)
    names = evaluation.predictions.load(folder / "predictions" / "val.npz").class_names
    strategy = strategies.parse(config.strategy)
    network, start, preprocessing = build_model(config, strategy, len(names), names)
    kept = {"params": start["params"], "batch_stats": start["batch_stats"]}
    checkpoints = Checkpoints(folder)
    try:
        best, _ = checkpoints.restore_best(kept)
    finally:
        checkpoints.close()
    return Loaded(config, network, preprocessing, start, without_source_head(best))
