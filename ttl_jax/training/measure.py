"""Auto-RGN and Auto-SNR: the passes that measure learning-rate multipliers at an epoch's start."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import optax

from ttl_jax.strategies import LabelledPhase, probe
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
) -> Measure:
    """Builds the function that gives a state new multipliers from a few batches.

    The gradients are those of the data's loss alone, as in the paper, taken at the state's
    parameters in inference mode, as those of the authors are; nothing else of the state changes,
    except that the moments start anew where the probe says so. Compiled once; arguments are as for
    `make_train_step`.
    """
    measured = bound.probe
    assert measured is not None

    @jax.jit
    def add(sums: probe.Sums, params: Any, batch_stats: Any, batch: Batch) -> probe.Sums:
        images = prepare(batch["image"], jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys_of(batch)))
        train, frozen = split(params, bound.trainable)

        def objective(train: dict[str, Array]) -> Array:
            variables = {"params": join(train, frozen), "batch_stats": batch_stats}
            logits: Any = network.apply(variables, images, after=after)
            return loss(logits, batch["label"])

        return probe.update(measured, sums, jax.grad(objective)(train), train)

    weigh = jax.jit(lambda sums, count: probe.weights(measured, sums, count))

    def measure(state: TrainState, batches: Iterable[Batch]) -> TrainState:
        sums, count = probe.initial(measured), 0
        for batch in batches:
            sums, count = add(sums, state.params, state.batch_stats, batch), count + 1
        state = replace(state, multipliers=weigh(sums, count))
        if measured.probe.reset_moments:
            train, _ = split(state.params, bound.trainable)
            state = replace(state, opt_state=optimizer.init(train))
        return state

    return measure
