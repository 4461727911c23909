"""Auto-RGN and Auto-SNR: the passes that measure learning-rate multipliers at an epoch's start."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import optax

from ttl_jax.models.batch_scope import batch_scope
from ttl_jax.strategies import LabelledPhase, probe
from ttl_jax.training.batch_statistics import TORCH, Estimate, moved
from ttl_jax.training.loss import Loss
from ttl_jax.training.state import TrainState, join, split
from ttl_jax.training.step import Batch, Prepare
from ttl_jax.typing import Array

Measure = Callable[[TrainState, Iterable[Batch]], TrainState]


def make_measure(
    network: nn.Module,
    bound: LabelledPhase,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    prepare: Prepare,
    keys_of: Callable[[Batch], Array],
    after: str | None = None,
    *,
    estimate: Estimate = TORCH,
) -> Measure:
    """Builds the function that gives a state new multipliers from a few batches.

    The gradients are those of the data's loss alone, as in the paper, taken at the state's
    parameters; nothing else of the state changes, except that the moments start anew and the
    statistics move where the probe says so. Compiled once; arguments are as for `make_train_step`.
    """
    measured = bound.probe
    assert measured is not None
    moving = measured.probe.moving

    @jax.jit
    def add(sums: probe.Sums, params: Any, statistics: Any, batch: Batch) -> tuple[probe.Sums, Any]:
        keys = keys_of(batch)
        images = prepare(batch["image"], jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys))
        dropout_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        train, frozen = split(params, bound.trainable)
        batch_stats, updates = statistics

        def objective(train: dict[str, Array]) -> tuple[Array, Any]:
            with batch_scope(None, batch["mask"] if "mask" in batch else None):
                logits, seen = network.apply(
                    {"params": join(train, frozen), "batch_stats": batch_stats},
                    images,
                    train=moving,
                    still=bound.still,
                    keys=dropout_keys if moving else None,
                    after=after,
                    mutable=["moments"],
                )
            return loss(logits, batch["label"]), dict(seen).get("moments", {})

        gradients, moments = jax.grad(objective, has_aux=True)(train)
        statistics = moved(batch_stats, updates, moments, estimate)
        return probe.update(measured, sums, gradients, train), statistics

    weigh = jax.jit(lambda sums, count: probe.weights(measured, sums, count))

    def measure(state: TrainState, batches: Iterable[Batch]) -> TrainState:
        sums, statistics, count = probe.initial(measured), (state.batch_stats, state.updates), 0
        for batch in batches:
            sums, statistics = add(sums, state.params, statistics, batch)
            count += 1
        batch_stats, updates = statistics
        state = replace(state, batch_stats=batch_stats, updates=updates, multipliers=weigh(sums, count))
        if measured.probe.reset_moments:
            train, _ = split(state.params, bound.trainable)
            state = replace(state, opt_state=optimizer.init(train))
        return state

    return measure
