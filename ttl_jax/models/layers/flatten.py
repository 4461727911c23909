"""The map that a "flatten" head sees."""

from __future__ import annotations

import math

from ttl_jax.models.layers.basic import max_pool
from ttl_jax.typing import Array, Float


def flat_map(x: Float[Array, "n *space c"], wanted: int | None) -> Float[Array, "n values"]:
    """Flattens a map, after a max-pool where it is much larger than a network's usual input of a head.

    The rule of the TTL authors' code for early cuts of AlexNet: window and stride are the whole
    part of sqrt(values / wanted), so that about `wanted` values are left.

    Args:
        x: a map, or features that are flat already.
        wanted: values that the head is made for; None = the map as it is.
    """
    if wanted is not None and x.ndim > 2:
        window = math.isqrt(math.prod(x.shape[1:]) // wanted)
        x = max_pool(x, window, window) if window > 1 else x
    return x.reshape(x.shape[0], -1)
