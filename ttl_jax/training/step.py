"""The training step: split by label, differentiate the trainable half only, update, join."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from ttl_jax.models.layers.batch_scope import batch_scope
from ttl_jax.strategies import LabelledPhase, flatten
from ttl_jax.strategies.parts import BoundPart, Seen
from ttl_jax.training.batch_statistics import TORCH, Estimate, moved
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
        layout: says whether the step is mapped over an axis (pmap), and into how many parts a batch is
            taken. Under an axis every device gathers the logits of all and computes the one loss of
            the whole batch, of which it differentiates its share.
        gain: of the optimizer (`optimizer.gain`): how far it goes, in learning rates.
        skip: a step whose loss or gradient is not finite changes nothing but the step's number.
        estimate: how the running statistics of BatchNorms that move are estimated.

    Returns:
        step(state, batch, rate, constants) -> (state, {"loss", "gradient_norm", and "penalty" where
        the loss has one}). The constants (`build.phase_constants`) may be left out where a phase needs none.
    """
    axis, shares = layout.axis, len(layout.devices) if layout.axis else 1
    norm_axis = axis if layout.norm == "global" else None

    def losses(
        parts: Sequence[BoundPart],
        train: Mapping[str, Array],
        features: Mapping[str, Array],
        images: Array,
        labels: Array,
        constants: Mapping[str, Any],
    ) -> list[Array]:
        """The terms that the parts add."""
        source: dict[str, Array] = {}
        if bound.source:  # the starting network sees the same images, in inference mode
            output: Any = network.apply(constants["source"], images, capture=bound.source, after=after)
            source = output[1]
        # A part that reads features reads those of the whole batch.
        whole = axis if bound.capture else None
        seen = Seen(train, _all(features, whole), _all(source, whole), _all(labels, whole), constants)
        return [term for item in parts if (term := item.loss(seen)) is not None]

    def step(
        state: TrainState, batch: Batch, rate: Float[Array, ""], constants: Mapping[str, Any] | None = None
    ) -> tuple[TrainState, dict[str, Array]]:
        given = constants or {}
        anchor = given.get("anchor", {})
        parts = (bound.weighted(given["strengths"]) if "strengths" in given else bound).parts
        train, frozen = split(state.params, bound.trainable)

        def draw() -> Array:  # of the step: it belongs to no example, device or part of a batch
            return jax.random.fold_in(jax.random.key(batch["seed"][0]), state.step)

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
            taken: Mapping[str, Array] = train
            for item in parts:
                taken = item.parameters(taken, anchor, draw)
            with ExitStack() as layers:
                for item in parts:
                    layers.enter_context(item.forward(draw))
                layers.enter_context(batch_scope(norm_axis, mask))
                output, seen = network.apply(
                    {"params": join(taken, frozen), "batch_stats": batch_stats},
                    images,
                    train=True,
                    still=bound.still,
                    capture=bound.capture,
                    keys=dropout_keys,
                    after=after,
                    mutable=["moments"],
                )
            # Where no BatchNorm moves (VGG, a probe) there is no such collection.
            statistics = moved(batch_stats, updates, dict(seen).get("moments", {}), estimate)
            logits, features = output if bound.capture else (output, {})
            value = weight * loss(_all(logits, axis), _all(labels, axis))
            terms = losses(parts, train, features, images, labels, given)
            if not terms:
                return value / shares, (statistics, {"loss": value})
            added = part * sum(terms[1:], terms[0])
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
        for item in parts:
            updates, multipliers = item.update(updates, multipliers, gradients, train)
        norm = global_norm(gradients)
        # Never true. So every update waits for all gradients, and XLA has no need of a copy of each
        # parameter that the backward pass might still read when it is updated in its place.
        rate = jnp.where(norm < 0, 0.0, rate)
        trained = jax.tree.map(lambda leaf, update: leaf - rate * update, train, updates)

        def size_of(path: str) -> Array:
            return jnp.asarray(gain * rate * bound.scales[path] * multipliers.get(path, 1.0))

        for item in parts:
            trained = item.moved(trained, anchor, size_of)
        average = state.average
        for item in parts if average else ():
            average = {
                "params": {
                    **average["params"],
                    **item.average(_of(average["params"], trained), trained, state.step),
                },
                "batch_stats": item.average(average["batch_stats"], flatten(batch_stats), state.step),
            }
        after_step = replace(
            state,
            params=join(trained, frozen),
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
