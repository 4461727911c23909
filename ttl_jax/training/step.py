"""The training step: split by label, differentiate the trainable half only, update, join."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ttl_jax.models import stochastic_norm
from ttl_jax.strategies import LabelledPhase, flatten, probe
from ttl_jax.strategies.average import ema_decay, ema_update
from ttl_jax.strategies.features import SOURCE_HEAD, FeatureDistance, Seen
from ttl_jax.strategies.features import value as feature_value
from ttl_jax.strategies.penalties import penalty
from ttl_jax.training.loss import Loss
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
    seed: int = 0,
) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
    """Builds the pure step of one phase (not yet jitted).

    Only leaves whose label is not "freeze" are arguments of the differentiated function: no metric
    and no clip can bring the backward of frozen units back.

    Args:
        network: called as `network.apply(variables, images, train, still, keys=..., after=...)`.
        bound: the phase, bound to the network.
        optimizer: from `make_optimizer`.
        loss: (logits, labels) -> scalar.
        prepare: uint8 images and one key an example -> normalised (and augmented) images.
        keys_of: batch -> (N,) PRNG keys, a function of (seed, epoch, example id) alone.
        after: the batch holds outputs of this unit (cached features) instead of images.
        mix: (images, labels, keys) -> mixtures of pairs and their labels as distributions (MixUp).
        ema: decay of the moving average that the state keeps, if it does.
        seed: of what is random but belongs to no example (StochNorm's channels).

    Returns:
        step(state, batch, rate, constants) -> (state, {"loss", "gradient_norm", and "penalty" where
        the loss has one}). The constants (see `constants.py`) may be left out where a phase needs none.
    """
    coupled = tuple(item for item in bound.pulls if item.pull.coupled and item.paths)
    extra = any(not item.pull.coupled and item.paths for item in bound.pulls)
    capture = tuple(dict.fromkeys(unit for item in bound.features for unit in item.units))
    of_source = tuple(
        unit for item in bound.features if isinstance(item.penalty, FeatureDistance) for unit in item.units
    )

    def random_channels(step: Array) -> AbstractContextManager[None]:
        if bound.stochastic is None:
            return nullcontext()
        return stochastic_norm(bound.stochastic, jax.random.fold_in(jax.random.key(seed), step))

    def penalties(
        train: Mapping[str, Array],
        features: Mapping[str, Array],
        images: Array,
        labels: Array,
        constants: Any,
    ) -> Array:
        total = penalty(coupled, train, constants.get("anchor", {}))
        if not bound.features:
            return total
        source: dict[str, Array] = {}
        if of_source:  # the starting network sees the same images, in inference mode
            output: Any = network.apply(constants["source"], images, capture=of_source, after=after)
            source = output[1]
        seen = Seen(
            features,
            source,
            labels,
            {path: leaf for path, leaf in train.items() if path.startswith(SOURCE_HEAD)},
            constants.get("attention", {}),
            constants.get("relation"),
        )
        return total + sum(feature_value(item, seen) for item in bound.features)

    def step(
        state: TrainState, batch: Batch, rate: Float[Array, ""], constants: Mapping[str, Any] | None = None
    ) -> tuple[TrainState, dict[str, Array]]:
        given = constants or {}
        keys = keys_of(batch)
        images = prepare(batch["image"], jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys))
        dropout_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        labels = batch["label"]
        if mix is not None:
            images, labels = mix(images, labels, jax.vmap(lambda key: jax.random.fold_in(key, 2))(keys))
        train, frozen = split(state.params, bound.trainable)

        def objective(train: dict[str, Array]) -> tuple[Array, Any]:
            with random_channels(state.step):
                output, updated = network.apply(
                    {"params": join(train, frozen), "batch_stats": state.batch_stats},
                    images,
                    train=True,
                    still=bound.still,
                    capture=capture,
                    keys=dropout_keys,
                    after=after,
                    mutable=["batch_stats"],
                )
            logits, features = output if capture else (output, {})
            value = loss(logits, labels)
            if not coupled and not bound.features:
                return value, (updated, {})
            added = penalties(train, features, images, labels, given)
            return value + added, (updated, {"penalty": added})

        (value, (updated, terms)), gradients = jax.value_and_grad(objective, has_aux=True)(train)
        anchor = {"anchor": given.get("anchor", {})} if extra else {}
        updates, opt_state = optimizer.update(gradients, state.opt_state, train, **anchor)
        multipliers = state.multipliers
        if bound.probe is not None and bound.probe.probe.refresh == "batch":
            sums = probe.update(bound.probe, probe.initial(bound.probe), gradients, train)
            multipliers = probe.weights(bound.probe, sums, 1)
        if multipliers:
            updates = {path: multipliers[path] * update for path, update in updates.items()}
        train = jax.tree.map(lambda leaf, update: leaf - rate * update, train, updates)
        # A network without BatchNorm (VGG) has no such collection.
        batch_stats = {**state.batch_stats, **dict(updated).get("batch_stats", {})}
        average = state.average
        if ema is not None:
            decay = ema_decay(ema, state.step)
            average = {
                "params": {**average["params"], **ema_update(_of(average["params"], train), train, decay)},
                "batch_stats": ema_update(average["batch_stats"], flatten(batch_stats), decay),
            }
        return (
            replace(
                state,
                params=join(train, frozen),
                batch_stats=batch_stats,
                opt_state=opt_state,
                step=state.step + 1,
                multipliers=multipliers,
                average=average,
            ),
            {"loss": value, "gradient_norm": optax.tree.norm(gradients), **terms},
        )

    return step


def _of(leaves: Mapping[str, Array], chosen: Mapping[str, Array]) -> dict[str, Array]:
    return {path: leaves[path] for path in chosen}


def compile_step(
    step: Callable[..., Any], state: TrainState, batch: Batch, constants: Mapping[str, Any] | None = None
) -> tuple[jax.stages.Compiled, float]:
    """Compiles a step once for these shapes, donating the state.

    Returns:
        The executable, called as the step is (with the constants if there are any), and its
        floating-point operations (XLA's count).
    """
    fixed = (constants,) if constants else ()
    compiled = jax.jit(step, donate_argnums=0).lower(state, batch, jnp.float32(0), *fixed).compile()
    analysis = compiled.cost_analysis()
    return compiled, float(analysis["flops"]) if analysis and "flops" in analysis else 0.0
