"""The training step: split by label, differentiate the trainable half only, update, join."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from ttl_jax.models.layers.batch_scope import batch_scope
from ttl_jax.strategies import LabelledPhase, flatten
from ttl_jax.strategies.parts import BoundPart, Seen
from ttl_jax.training.batch_statistics import TORCH, Estimate, moved
from ttl_jax.training.devices import ONE, Layout
from ttl_jax.training.loss import Loss
from ttl_jax.training.optimizer import global_norm
from ttl_jax.training.state import TrainState, join, split
from ttl_jax.typing import Array, Float

Batch = dict[str, Any]
# images uint8 (N, S, S, C), per-example keys (N,) -> normalised float images
Mix = Callable[[Array, Array, Array], tuple[Array, Array]]
Prepare = Callable[[Array, Array], Array]


class Given(NamedTuple):
    """The arguments of a call of the step that are not differentiated.

    Attributes:
        parts: the phase's parts, with the strengths that the call was given.
        frozen: {path: leaf} of the parameters that do not train.
        constants: arrays by name; "anchor" holds the starting values.
        draw: () -> the PRNG key of the step, which belongs to no example, device or part of a batch.
    """

    parts: tuple[BoundPart, ...]
    frozen: Mapping[str, Array]
    constants: Mapping[str, Any]
    draw: Callable[[], Array]

    @property
    def anchor(self) -> Mapping[str, Array]:
        """{path: starting value}."""
        anchor: Mapping[str, Array] = self.constants.get("anchor", {})
        return anchor


@dataclass(frozen=True, eq=False)
class TrainStep:
    """The pure step of one phase, not yet jitted.

    Only leaves whose label is not "freeze" are arguments of the differentiated function: no metric
    and no clip can bring the backward of frozen units back.

    Attributes:
        network: called as `network.apply(variables, images, train, still, keys=..., after=...)`.
        bound: the phase, bound to the network.
        optimizer: the optimizer from `make_optimizer`.
        loss: (logits, labels) -> scalar; with accumulation its `weight` too.
        prepare: uint8 images and one key an example -> normalised (and augmented) images.
        keys_of: batch -> (N,) PRNG keys, a function of (seed, epoch, example id) alone.
        after: the batch holds outputs of this unit (cached features) instead of images.
        mix: (images, labels, keys) -> mixtures of pairs and their labels as distributions (MixUp).
        skip: a step whose loss or gradient is not finite changes nothing but the step's number.
        gain: how many learning rates a steady gradient moves a parameter a step (`optimizer.gain`).
        layout: says whether the step is mapped over an axis (pmap), and into how many parts a batch is
            taken. Under an axis every device gathers the logits of all and computes the one loss of
            the whole batch, of which it differentiates its share.
        estimate: the way in which running statistics of BatchNorms that move are estimated.
    """

    network: nn.Module
    bound: LabelledPhase
    optimizer: optax.GradientTransformation
    loss: Loss
    prepare: Prepare
    keys_of: Callable[[Batch], Array]
    after: str | None = None
    mix: Mix | None = None
    skip: bool = False
    gain: float = 1.0
    layout: Layout = ONE
    estimate: Estimate = TORCH
    __name__ = "step"  # of the program that JAX makes of it

    def __call__(
        self,
        state: TrainState,
        batch: Batch,
        rate: Float[Array, ""],
        constants: Mapping[str, Any] | None = None,
    ) -> tuple[TrainState, dict[str, Array]]:
        """Trains on one batch.

        Args:
            state: the phase's training state.
            batch: "image", "label", "example", "epoch", "seed" and, where it is padded, "mask".
            rate: learning rate.
            constants: the result of `build.phase_constants`; may be left out where the phase needs none.

        Returns:
            The state after it, and {"loss", "gradient_norm", and "penalty" where the loss has one}.
        """
        bound, axis, constants = self.bound, self.layout.axis, constants or {}
        weighted = bound.weighted(constants["strengths"]) if "strengths" in constants else bound
        train, frozen = split(state.params, bound.trainable)

        def draw() -> Array:
            return jax.random.fold_in(jax.random.key(batch["seed"][0]), state.step)

        # ---- Gradients of what trains, of the whole batch.
        given = Given(weighted.parts, frozen, constants, draw)
        gradients, (batch_stats, counts), terms = _gradients(
            partial(self._objective, given),
            train,
            (state.batch_stats, state.updates),
            batch,
            self.layout.accumulate,
            axis,
            self.loss,
        )
        if axis is not None:
            gradients = lax.psum(gradients, axis)
            if self.layout.norm == "device":  # each device's own moments moved them: the mean is kept
                batch_stats = lax.pmean(batch_stats, axis)
        # ---- The update.
        updates, opt_state = self.optimizer.update(gradients, state.opt_state, train)
        multipliers = state.multipliers
        # Parts scale the update, not the gradient: Adam would divide a factor of the gradient out again.
        for item in given.parts:
            updates, multipliers = item.update(updates, multipliers, gradients, train)
        norm = global_norm(gradients)
        # Never true. So every update waits for all gradients, and XLA has no need of a copy of each
        # parameter that the backward pass might still read when it is updated in its place.
        rate = jnp.where(norm < 0, 0.0, rate)
        trained = jax.tree.map(lambda leaf, update: leaf - rate * update, train, updates)

        def size_of(path: str) -> Array:
            size: Array = self.gain * rate * bound.scales[path] * multipliers.get(path, 1.0)
            return size

        # Proximal steps start from the updated weights, out of the reach of Adam's division.
        for item in given.parts:
            trained = item.moved(trained, given.anchor, size_of)
        # ---- The state after it. The average takes the weights last, as every part has left them.
        average = _averaged(given.parts, state, trained, batch_stats)
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
        if self.skip:
            fine = jnp.isfinite(terms["loss"]) & jnp.isfinite(norm)
            before = replace(state, step=after_step.step)
            after_step = jax.tree.map(lambda new, old: jnp.where(fine, new, old), after_step, before)
        return after_step, {**terms, "gradient_norm": norm}

    def _objective(
        self,
        given: Given,
        train: dict[str, Array],
        statistics: Any,
        batch: Batch,
        weight: Any = 1.0,
        part: Any = 1.0,
    ) -> tuple[Array, Any]:
        """The loss of a batch, or of a part of it.

        The loss counts `weight` times, what the parts of the strategy add `part` times: 1 but for a part
        of a batch.

        Returns:
            (this device's share of it, (moved statistics, {"loss", "penalty"})).
        """
        bound, axis = self.bound, self.layout.axis
        shares = len(self.layout.devices) if axis else 1
        batch_stats, updates = statistics
        # ---- Images, drawn and normalised. Folds of the keys: 0 augmentation, 1 dropout, 2 mixing.
        keys = self.keys_of(batch)
        images = self.prepare(batch["image"], jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys))
        dropout_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        labels = batch["label"]
        if self.mix is not None:
            images, labels = self.mix(images, labels, jax.vmap(lambda key: jax.random.fold_in(key, 2))(keys))
        mask = batch["mask"] if "mask" in batch else None
        # ---- Forward.
        taken: Mapping[str, Array] = train
        for item in given.parts:
            taken = item.parameters(taken, given.anchor, given.draw)
        with ExitStack() as layers:
            for item in given.parts:
                layers.enter_context(item.forward(given.draw))
            layers.enter_context(batch_scope(axis if self.layout.norm == "global" else None, mask))
            output, seen = self.network.apply(
                {"params": join(taken, given.frozen), "batch_stats": batch_stats},
                images,
                train=True,
                still=bound.still,
                capture=bound.capture,
                keys=dropout_keys,
                after=self.after,
                mutable=["moments"],
            )
        # Where no BatchNorm moves (VGG, a probe) there is no such collection.
        statistics = moved(batch_stats, updates, dict(seen).get("moments", {}), self.estimate)
        # ---- The loss, and what the parts add.
        logits, features = output if bound.capture else (output, {})
        value = weight * self.loss(_all(logits, axis), _all(labels, axis))
        terms = self._terms(given, train, features, images, labels)
        if not terms:
            return value / shares, (statistics, {"loss": value})
        added = part * sum(terms[1:], terms[0])
        return (value + added) / shares, (statistics, {"loss": value + added, "penalty": added})

    def _terms(
        self,
        given: Given,
        train: Mapping[str, Array],
        features: Mapping[str, Array],
        images: Array,
        labels: Array,
    ) -> list[Array]:
        """The terms that the parts add to the loss."""
        bound, source = self.bound, dict[str, Array]()
        if bound.source:  # the starting network sees the same images, in inference mode
            variables = given.constants["source"]
            output: Any = self.network.apply(variables, images, capture=bound.source, after=self.after)
            source = output[1]
        # A part that reads features reads those of the whole batch.
        axis = self.layout.axis if bound.capture else None
        seen = Seen(train, _all(features, axis), _all(source, axis), _all(labels, axis), given.constants)
        return [term for item in given.parts if (term := item.loss(seen)) is not None]


def _averaged(
    parts: Sequence[BoundPart], state: TrainState, trained: Mapping[str, Array], batch_stats: Any
) -> Any:
    """The moving average after the step, where the state keeps one."""
    average = state.average
    for item in parts if average else ():
        params = average["params"]
        average = {
            "params": {**params, **item.average(_of(params, trained), trained, state.step)},
            "batch_stats": item.average(average["batch_stats"], flatten(batch_stats), state.step),
        }
    return average


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
