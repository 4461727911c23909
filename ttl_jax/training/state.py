"""The state of a run on the device, and the split of parameters into trainable and frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from ttl_jax.strategies import flatten, unflatten
from ttl_jax.typing import Array, Int


@struct.dataclass
class TrainState:
    """Everything that a step reads and writes.

    Attributes:
        params: nested parameters, float32.
        batch_stats: nested running statistics of BatchNorm, float32.
        opt_state: state of the phase's optimizer; it exists for trainable leaves only.
        step: steps done since the start of the run, all phases together.
    """

    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    step: Int[Array, ""]


def split(params: Mapping[str, Any], trainable: Iterable[str]) -> tuple[dict, dict]:
    """Splits nested parameters into two flat dicts, {path: leaf}: trainable and frozen."""
    flat, chosen = flatten(params), set(trainable)
    train = {path: leaf for path, leaf in flat.items() if path in chosen}
    return train, {path: leaf for path, leaf in flat.items() if path not in chosen}


def join(train: Mapping[str, Any], frozen: Mapping[str, Any]) -> dict[str, Any]:
    """Puts the two halves of `split` together again."""
    return unflatten({**frozen, **train})


def initial_state(
    variables: Mapping[str, Any],
    optimizer: optax.GradientTransformation,
    trainable: Iterable[str],
    step: int = 0,
) -> TrainState:
    """Builds the state at the start of a phase, with fresh buffers that a step may donate."""
    params, batch_stats = jax.tree.map(
        lambda leaf: jnp.array(leaf, dtype=jnp.float32, copy=True),
        (dict(variables["params"]), dict(variables["batch_stats"])),
    )
    train, _ = split(params, trainable)
    return TrainState(params, batch_stats, optimizer.init(train), jnp.int32(step))
