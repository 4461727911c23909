"""The training step: split by label, differentiate the trainable half only, update, join."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from ttl_jax.models import stochastic_norm
from ttl_jax.models.layers.batch_scope import batch_scope
from ttl_jax.strategies import LabelledPhase, flatten, probe
from ttl_jax.strategies.average import ema_decay, ema_update
from ttl_jax.strategies.features import SOURCE_HEAD, FeatureDistance, Seen
from ttl_jax.strategies.features import value as feature_value
from ttl_jax.strategies.penalties import BoundPull, penalty, proximal
from ttl_jax.training.batch_statistics import TORCH, Estimate, moved
from ttl_jax.training.constants import weighted
from ttl_jax.training.devices import ONE, Layout
from ttl_jax.training.loss import Loss
from ttl_jax.training.optimizer import global_norm
from ttl_jax.training.placing import settle_memory
from ttl_jax.training.state import TrainState, join, split
from ttl_jax.typing import Array, Float

Batch = dict[str, Any]
# images uint8 (N, S, S, C), per-example keys (N,) -> normalised float images
Mix = Callable[[Array, Array, Array], tuple[Array, Array]]
Prepare = Callable[[Array, Array], Array]


def make_train_step(
    network: nn.Module,
    bound: LabelledPhase,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    prepare: Prepare,
    keys_of: Callable[[Batch], Array],
    after: str | None = None,
    *,
    mix: Mix | None = None,
    ema: float | None = None,
    skip: bool = False,
    gain: float = 1.0,
    layout: Layout = ONE,
    estimate: Estimate = TORCH,
) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
    """Builds the pure step of one phase (not yet jitted).

    Only leaves whose label is not "freeze" are arguments of the differentiated function: no metric
    and no clip can bring the backward of frozen units back.

    Args:
        network: called as `network.apply(variables, images, train, still, keys=..., after=...)`.
        bound: the phase, bound to the network.
        optimizer: from `make_optimizer`.
        loss: (logits, labels) -> scalar; with accumulation its `weight` too.
        prepare: uint8 images and one key an example -> normalised (and augmented) images.
        keys_of: batch -> (N,) PRNG keys, a function of (seed, epoch, example id) alone.
        after: the batch holds outputs of this unit (cached features) instead of images.
        mix: (images, labels, keys) -> mixtures of pairs and their labels as distributions (MixUp).
        ema: decay of the moving average that the state keeps, if it does.
        layout: says whether the step is mapped over an axis (pmap), and into how many parts a batch is
            taken. Under an axis every device gathers the logits of all and computes the one loss of
            the whole batch, of which it differentiates its share.
        gain: of the optimizer (`optimizer.gain`): how far it goes, in learning rates.
        skip: a step whose loss or gradient is not finite changes nothing but the step's number.
        estimate: how the running statistics of BatchNorms that move are estimated.

    Returns:
        step(state, batch, rate, constants) -> (state, {"loss", "gradient_norm", and "penalty" where
        the loss has one}). The constants (see `constants.py`) may be left out where a phase needs none.
    """
    axis, shares = layout.axis, len(layout.devices) if layout.axis else 1
    norm_axis = axis if layout.norm == "global" else None
    coupled, apart = _pulls(bound, True), _pulls(bound, False)
    capture = tuple(dict.fromkeys(unit for item in bound.features for unit in item.units))
    of_source = tuple(
        unit for item in bound.features if isinstance(item.penalty, FeatureDistance) for unit in item.units
    )

    def random_channels(step: Array, batch: Batch) -> AbstractContextManager[None]:
        if bound.stochastic is None:
            return nullcontext()
        root = jax.random.key(batch["seed"][0])  # they belong to no example
        return stochastic_norm(bound.stochastic, jax.random.fold_in(root, step))

    def penalties(
        now: LabelledPhase,
        train: Mapping[str, Array],
        features: Mapping[str, Array],
        images: Array,
        labels: Array,
        constants: Any,
    ) -> Array:
        total = penalty(_pulls(now, True), train, constants.get("anchor", {}))
        if not now.features:
            return total
        source: dict[str, Array] = {}
        if of_source:  # the starting network sees the same images, in inference mode
            output: Any = network.apply(constants["source"], images, capture=of_source, after=after)
            source = output[1]
        seen = Seen(
            _all(features, axis),
            _all(source, axis),
            _all(labels, axis),
            {path: leaf for path, leaf in train.items() if path.startswith(SOURCE_HEAD)},
            constants.get("attention", {}),
            constants.get("relation"),
        )
        return total + sum(feature_value(item, seen) for item in now.features)

    def step(
        state: TrainState, batch: Batch, rate: Float[Array, ""], constants: Mapping[str, Any] | None = None
    ) -> tuple[TrainState, dict[str, Array]]:
        given = constants or {}
        now = weighted(bound, given["weights"]) if "weights" in given else bound
        train, frozen = split(state.params, bound.trainable)

        def objective(
            train: dict[str, Array], statistics: Any, batch: Batch, weight: Any = 1.0, part: Any = 1.0
        ) -> tuple[Array, Any]:
            """The loss counts `weight` times, penalties `part` times: 1 but for a part of a batch."""
            batch_stats, updates = statistics
            keys = keys_of(batch)
            images = prepare(batch["image"], jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys))
            dropout_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
            labels = batch["label"]
            if mix is not None:
                images, labels = mix(images, labels, jax.vmap(lambda key: jax.random.fold_in(key, 2))(keys))
            mask = batch["mask"] if "mask" in batch else None
            with random_channels(state.step, batch), batch_scope(norm_axis, mask):
                output, seen = network.apply(
                    {"params": join(train, frozen), "batch_stats": batch_stats},
                    images,
                    train=True,
                    still=bound.still,
                    capture=capture,
                    keys=dropout_keys,
                    after=after,
                    mutable=["moments"],
                )
            # Where no BatchNorm moves (VGG, a probe) there is no such collection.
            statistics = moved(batch_stats, updates, dict(seen).get("moments", {}), estimate)
            logits, features = output if capture else (output, {})
            value = weight * loss(_all(logits, axis), _all(labels, axis))
            if not coupled and not bound.features:
                return value / shares, (statistics, {"loss": value})
            added = part * penalties(now, train, features, images, labels, given)
            return (value + added) / shares, (statistics, {"loss": value + added, "penalty": added})

        gradients, (batch_stats, counts), terms = _gradients(
            objective, train, (state.batch_stats, state.updates), batch, layout.accumulate, axis, loss
        )
        if axis is not None:
            gradients = lax.psum(gradients, axis)
            if layout.norm == "device":  # each device's own moments moved them: the mean is kept
                batch_stats = lax.pmean(batch_stats, axis)
        updates, opt_state = optimizer.update(gradients, state.opt_state, train)
        multipliers = state.multipliers
        if bound.probe is not None and bound.probe.probe.refresh == "batch":
            sums = probe.update(bound.probe, probe.initial(bound.probe), gradients, train)
            multipliers = probe.weights(bound.probe, sums, 1)
        if multipliers:
            updates = {path: multipliers[path] * update for path, update in updates.items()}
        norm = global_norm(gradients)
        # Never true. So every update waits for all gradients, and XLA has no need of a copy of each
        # parameter that the backward pass might still read when it is updated in its place.
        rate = jnp.where(norm < 0, 0.0, rate)
        train = jax.tree.map(lambda leaf, update: leaf - rate * update, train, updates)
        if apart:  # a step as long as the leaf's own: what does not move is not pulled either
            sizes = {path: gain * rate * bound.scales[path] * multipliers.get(path, 1.0) for path in train}
            train = proximal(_pulls(now, False), train, given.get("anchor", {}), sizes)
        average = state.average
        if ema is not None:
            decay = ema_decay(ema, state.step)
            average = {
                "params": {**average["params"], **ema_update(_of(average["params"], train), train, decay)},
                "batch_stats": ema_update(average["batch_stats"], flatten(batch_stats), decay),
            }
        after_step = replace(
            state,
            params=join(train, frozen),
            batch_stats=batch_stats,
            opt_state=opt_state,
            step=state.step + 1,
            multipliers=multipliers,
            average=average,
            updates=counts,
        )
        if skip:
            fine = jnp.isfinite(terms["loss"]) & jnp.isfinite(norm)
            before = replace(state, step=after_step.step)
            after_step = jax.tree.map(lambda new, old: jnp.where(fine, new, old), after_step, before)
        return after_step, {**terms, "gradient_norm": norm}

    return step


def _pulls(bound: LabelledPhase, coupled: bool) -> tuple[BoundPull, ...]:
    return tuple(item for item in bound.pulls if item.pull.coupled == coupled and item.paths)


def in_one_call(step: Callable[..., Any]) -> Callable[..., Any]:
    """Several steps as one program: (state, (batch, ...), rates (K,)[, constants]) -> (state, figures (K,)).

    The host is asked once for all of them: for steps that take less time than their launch.
    """

    def steps(state: TrainState, batches: tuple[Batch, ...], rates: Array, *constants: Any) -> Any:
        stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *batches)
        return lax.scan(lambda state, item: step(state, *item, *constants), state, (stacked, rates))

    return steps


def _all(tree: Any, axis: str | None) -> Any:
    """The rows of every device, where there is an axis."""
    if axis is None:
        return tree
    return jax.tree.map(lambda leaf: lax.all_gather(leaf, axis, tiled=True), tree)


def _gradients(
    objective: Callable[..., tuple[Array, Any]],
    train: dict[str, Array],
    statistics: Any,
    batch: Batch,
    parts: int,
    axis: str | None,
    loss: Loss,
) -> tuple[dict[str, Array], Any, dict[str, Array]]:
    """Gradients, moved statistics and the loss's terms of a batch, taken in so many parts.

    Part k holds the rows k, k + parts, ...: the same ones however the batch is split over devices. The
    loss of a part counts by its share of the batch's weights (of classes, of known labels), so that the
    sum is the loss of the whole batch; penalties count by the share of the examples (padding is none).
    Each part moves the statistics in its turn, by moments of its own.
    """
    differentiate = jax.value_and_grad(objective, has_aux=True)
    if parts == 1:
        (_, (statistics, terms)), gradients = differentiate(train, statistics, batch)
        return gradients, statistics, terms
    cut = {
        name: jnp.moveaxis(value.reshape(-1, parts, *value.shape[1:]), 1, 0) for name, value in batch.items()
    }
    counts = cut["mask"].sum(1) if "mask" in cut else jnp.full(parts, cut["label"].shape[1], jnp.float32)
    weighed = jax.vmap(loss.weight)(cut["label"])
    counts, weighed = lax.psum((counts, weighed), axis) if axis is not None else (counts, weighed)

    def add(carried: Any, item: Any) -> tuple[Any, None]:
        sums, statistics = carried
        (_, (statistics, terms)), gradients = differentiate(train, statistics, *item)
        return (jax.tree.map(jnp.add, sums, (gradients, terms)), statistics), None

    first = {name: value[0] for name, value in cut.items()}
    (_, (_, shapes)), _ = jax.eval_shape(differentiate, train, statistics, first)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (train, shapes))
    shares = (each / jnp.maximum(each.sum(), 1e-12) for each in (weighed, counts))
    (sums, statistics), _ = lax.scan(add, (zeros, statistics), (cut, *shares))
    return sums[0], statistics, sums[1]


def _of(leaves: Mapping[str, Array], chosen: Mapping[str, Array]) -> dict[str, Array]:
    return {path: leaves[path] for path in chosen}


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
    found = layout.compile(step, state, batch, rate, *fixed, lowered=lowered)
    settle_memory()
    return found
