"""The common ground of penalties on features: BSS, DELTA, co-tuning."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from ttl_jax.errors import UserError
from ttl_jax.strategies.anatomy import Anatomy
from ttl_jax.typing import Array, Float


def pooled(features: Float[Array, "n *space c"]) -> Float[Array, "n c"]:
    """Mean over positions, in float32."""
    return features.astype(jnp.float32).mean(axis=tuple(range(1, features.ndim - 1)))


def moving(units: Sequence[str], anatomy: Anatomy, trainable: Sequence[str]) -> tuple[str, ...]:
    """Selects the units whose outputs can change: something trains in them or below."""
    chosen = set(trainable)
    lowest = min(leaf.unit for leaf in anatomy.leaves if leaf.path in chosen)
    return tuple(unit for unit in units if anatomy.units.index(unit) + 1 >= lowest)


def check_weight(weight: float) -> None:
    """Refuses a weight that is negative or no number."""
    if not weight >= 0:
        raise UserError(f"a penalty of weight {weight}: it must not be negative")
