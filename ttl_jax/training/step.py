"""The training step: split by label, differentiate the trainable half only, update, join."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ttl_jax.host import release_memory
from ttl_jax.strategies import LabelledPhase
from ttl_jax.training.loss import Loss
from ttl_jax.training.state import TrainState, join, split
from ttl_jax.typing import Array, Float

Batch = dict[str, Any]
# images uint8 (N, S, S, C), per-example keys (N,) -> normalised float images
Prepare = Callable[[Array, Array], Array]


def make_train_step(
    network: nn.Module,
    bound: LabelledPhase,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    prepare: Prepare,
    keys_of: Callable[[Batch], Array],
    after: str | None = None,
) -> Callable[[TrainState, Batch, Float[Array, ""]], tuple[TrainState, dict[str, Array]]]:
    """Builds the pure step of one phase (not yet jitted).

    Only leaves whose label is not "freeze" are arguments of the differentiated function: no metric
    or clip can bring the frozen backward pass back, and no optimizer state exists for them.

    Args:
        network: from `models.create`.
        bound: the phase with its labels and the units whose statistics stay still.
        optimizer: on {path: leaf} of the trainable leaves; its updates are scaled by -rate here.
        loss: (logits, labels) -> scalar.
        prepare: augments and normalises images on the device.
        keys_of: batch -> (N,) typed keys, a function of (seed, epoch, example id) only.
        after: the batch holds outputs of this unit (cached features) instead of images.

    Returns:
        step(state, batch, rate) -> (state, {"loss", "gradient_norm"}).
    """

    def step(state: TrainState, batch: Batch, rate: Float[Array, ""]) -> tuple[TrainState, dict[str, Array]]:
        keys = keys_of(batch)
        images = prepare(batch["image"], jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys))
        dropout_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        train, frozen = split(state.params, bound.trainable)

        def objective(train: dict[str, Array]) -> tuple[Array, Any]:
            logits, updated = network.apply(
                {"params": join(train, frozen), "batch_stats": state.batch_stats},
                images,
                train=True,
                still=bound.still,
                keys=dropout_keys,
                after=after,
                mutable=["batch_stats"],
            )
            return loss(logits, batch["label"]), updated

        (value, updated), gradients = jax.value_and_grad(objective, has_aux=True)(train)
        updates, opt_state = optimizer.update(gradients, state.opt_state, train)
        train = jax.tree.map(lambda leaf, update: leaf - rate * update, train, updates)
        return (
            TrainState(
                params=join(train, frozen),
                # A network without BatchNorm (VGG) has no such collection.
                batch_stats={**state.batch_stats, **dict(updated).get("batch_stats", {})},
                opt_state=opt_state,
                step=state.step + 1,
            ),
            {"loss": value, "gradient_norm": optax.tree.norm(gradients)},
        )

    return step


def compile_step(
    step: Callable[..., Any], state: TrainState, batch: Batch
) -> tuple[jax.stages.Compiled, float]:
    """Compiles a step once for these shapes, donating the state.

    Returns:
        The executable, called as the step is, and its floating-point operations (XLA's count).
    """
    compiled = jax.jit(step, donate_argnums=0).lower(state, batch, jnp.float32(0)).compile()
    release_memory()
    analysis = compiled.cost_analysis()
    return compiled, float(analysis["flops"]) if analysis and "flops" in analysis else 0.0
