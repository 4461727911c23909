"""The plan of a strategy on a network, from shapes alone: who trains when, at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax import models, strategies
from ttl_jax.config import RunConfig
from ttl_jax.data import example_keys
from ttl_jax.errors import UserError
from ttl_jax.strategies import FREEZE, LabelledPhase, LabelRow, Strategy, anatomy_of, flatten
from ttl_jax.strategies.anatomy import SOURCE_HEAD
from ttl_jax.strategies.select import matches
from ttl_jax.training.count_flops import operations
from ttl_jax.training.loss import make_loss
from ttl_jax.training.optimizer import make_optimizer
from ttl_jax.training.schedule import phase_lengths
from ttl_jax.training.state import initial_state
from ttl_jax.training.step import TrainStep

SOURCE_CLASSES = 1000  # of the pretrained head that co-tuning keeps: ImageNet's


@dataclass(frozen=True)
class UnitPlan:
    """Treatment of one unit in one phase.

    Attributes:
        unit: Name of the unit, or "head".
        labels: Labels of the unit's parameters; empty if it has none.
        rate: Multiplier of the learning rate, the largest among the unit's leaves; 0 if frozen.
        still: True if the unit's BatchNorms keep their running statistics.
    """

    unit: str
    labels: tuple[str, ...]
    rate: float
    still: bool


@dataclass(frozen=True)
class PhasePlan:
    """One phase of a strategy.

    Attributes:
        name: Name of the phase.
        share: Share of the run's steps, in [0, 1].
        rows: The table of labels.
        trainable: Number of parameters that are differentiated and updated.
        flops: Floating-point operations of one step (`operations`). None if they were not counted or the
            backend cannot count them.
        optimizer_bytes: Size of the optimizer's state.
        units: The units from bottom to top, then the head.
        measured: True if learning rates are measured during training (Auto-RGN, Auto-SNR).
        base_lr: The learning rate that the multipliers apply to. None means the run's own.
        solver: Name of the solver that fits the head, or None if it is trained by gradient steps.
    """

    name: str
    share: float
    rows: tuple[LabelRow, ...]
    trainable: int
    flops: float | None
    optimizer_bytes: int
    units: tuple[UnitPlan, ...]
    measured: bool
    base_lr: float | None = None
    solver: str | None = None


@dataclass(frozen=True)
class Plan:
    """A whole strategy on a network.

    Attributes:
        strategy: The strategy as it was written.
        model: Name of the network.
        parameters: Number of parameters of the network after the strategy's surgery.
        dropped: Names of the units above the cut.
        fresh: Initialisation of the units that do not start pretrained: unit -> "scratch", "mean_var" or
            "slim".
        phases: The phases in the order of training.
        batch, image_size: Batch size and pixels per side for which a step's operations are counted.
    """

    strategy: str
    model: str
    parameters: int
    dropped: tuple[str, ...]
    fresh: dict[str, str]
    phases: tuple[PhasePlan, ...]
    batch: int
    image_size: int


def plan(
    text: str | Strategy,
    model: str,
    classes: int = 2,
    image_size: int = 224,
    batch: int = 32,
    count: bool = True,
) -> Plan:
    """Work out the plan of a strategy from shapes alone.

    Args:
        text: The strategy, or its text as `strategies.parse` reads it.
        model: Name of the network.
        classes: Number of outputs of the head.
        image_size: Pixels per side of the square input.
        batch: Examples per step.
        count: Also count operations. This traces the step of every phase, which takes seconds.

    Raises:
        UserError: whatever is wrong with the strategy on this network.
    """
    for name, value in (("classes", classes), ("image size", image_size), ("batch", batch)):
        if value < 1:
            raise UserError(f"{name} {value} must be 1 or more")
    strategy = strategies.parse(text)
    surgery = strategy.surgery.shape(model)
    network = models.create(model, classes, **surgery)
    image = jax.ShapeDtypeStruct((1, *models.input_shape(model, image_size)), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    variables = {"params": dict(variables["params"]), "batch_stats": dict(variables.get("batch_stats", {}))}
    if strategy.keeps_source_head:
        width = variables["params"]["head"]["kernel"].shape[0]
        variables["params"][SOURCE_HEAD] = {
            "kernel": jax.ShapeDtypeStruct((width, SOURCE_CLASSES), jnp.float32),
            "bias": jax.ShapeDtypeStruct((SOURCE_CLASSES,), jnp.float32),
        }
    bound = strategies.bind(strategy, variables["params"], model)
    budget = 1000 * len(bound)
    lengths = phase_lengths([item.phase for item in bound], budget, budget / 100)
    names = anatomy_of(variables["params"], model).units
    dropped = tuple(unit.name for unit in models.units(model) if unit.name not in names)
    return Plan(
        strategies.title(text),
        model,
        sum(leaf.size for path, leaf in flatten(variables["params"]).items() if SOURCE_HEAD not in path),
        dropped,
        _fresh(strategy, model, variables["params"], network),
        tuple(
            _phase(
                item,
                length / sum(lengths),
                network,
                variables,
                model,
                classes,
                (batch, *image.shape[1:]),
                count,
            )
            for item, length in zip(bound, lengths, strict=True)
        ),
        batch,
        image_size,
    )


def _phase(  # noqa: PLR0913
    bound: LabelledPhase,
    share: float,
    network: models.Network,
    variables: Mapping[str, Any],
    model: str,
    classes: int,
    images: tuple[int, ...],
    count: bool,
) -> PhasePlan:
    optimizer = make_optimizer(bound, RunConfig().optimizer)
    step = TrainStep(
        network,
        bound,
        optimizer,
        make_loss("multiclass", jnp.ones(classes)),
        lambda images, keys: images.astype(jnp.float32) / 255,
        lambda item: example_keys(item["seed"], item["epoch"], item["example"]),
    )
    state = jax.eval_shape(
        lambda: initial_state(
            jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), dict(variables)),
            optimizer,
            bound.trainable,
            measured=bound.measures,
        )
    )
    sizes = {path: leaf.size for path, leaf in flatten(variables["params"]).items()}
    flops = (
        _operations(step, state, images, _constants(bound, network, variables, images[1:], classes))
        if count
        else None
    )
    return PhasePlan(
        bound.phase.name or "",
        share,
        tuple(strategies.table(bound, variables["params"], model)),
        sum(sizes[path] for path in bound.trainable),
        flops,
        sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.opt_state)),
        _units(bound, variables["params"], model),
        bound.measures,
        bound.phase.base_lr,
        None if bound.solver is None else bound.solver.part.solves,
    )


def _operations(step: Any, state: Any, images: tuple[int, ...], constants: dict[str, Any]) -> float | None:
    """Count the operations of one training step on a batch of that shape."""
    number = jax.ShapeDtypeStruct(images[:1], np.int32)
    data = {
        "image": jax.ShapeDtypeStruct(images, np.uint8),
        "label": number,
        "example": number,
        "epoch": number,
        "seed": number,
    }
    rate = jax.ShapeDtypeStruct((), np.float32)
    return operations(jax.jit(step).trace(state, data, rate, constants))


def _constants(
    bound: LabelledPhase,
    network: models.Network,
    variables: Mapping[str, Any],
    image: tuple[int, ...],
    classes: int,
) -> dict[str, Any]:
    """Return the shapes of the output of `build.phase_constants`."""
    params = flatten(variables["params"])
    constants: dict[str, Any] = {"anchor": {path: params[path] for path in bound.anchor}}
    if bound.source:
        constants["source"] = dict(variables)
    features: dict[str, Any] = {}
    if bound.capture:
        one = jax.ShapeDtypeStruct((1, *image), np.float32)
        _, features = jax.eval_shape(
            lambda given, image: network.apply(given, image, capture=bound.capture), dict(variables), one
        )
    for item in bound.parts:
        constants |= item.part.shapes(features, params, classes)
    return constants


def _units(bound: LabelledPhase, params: Mapping[str, Any], model: str) -> tuple[UnitPlan, ...]:
    anatomy = anatomy_of(params, model)
    plans = []
    for number, name in enumerate((*anatomy.units, "head"), start=1):
        paths = [leaf.path for leaf in anatomy.leaves if leaf.unit == number]
        labels = tuple(dict.fromkeys(sorted(bound.labels[path] for path in paths)))
        rates = [bound.rates[path] for path in paths if bound.labels[path] != FREEZE]
        plans.append(UnitPlan(name, labels, max(rates, default=0.0), name in bound.still))
    return tuple(plans)


def _fresh(
    strategy: Strategy, model: str, params: Mapping[str, Any], network: models.Network
) -> dict[str, str]:
    """Return the units that do not start at their pretrained weights, and how they start."""
    surgery = strategy.surgery
    anatomy = anatomy_of(params, model)
    starts_of: dict[str, str] = {}
    for leaf in anatomy.leaves:
        for where, start in surgery.starts.items():
            inside = leaf.unit != anatomy.head and matches(where, leaf, anatomy)
            if inside and start != "pretrained":
                starts_of[anatomy.units[leaf.unit - 1]] = start
    if surgery.slim_from is not None:
        whole = models.create(model, network.head.classes).units
        changed = [old.name for old, new in zip(whole, network.units, strict=False) if old != new]
        first = anatomy.units.index(changed[0])
        starts_of |= dict.fromkeys(anatomy.units[first:], "slim")
    return starts_of
