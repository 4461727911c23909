"""Random masks, bit for bit `jax.random.bernoulli`'s, in a form that is fast on a CPU.

There JAX runs the rounds of its generator (Threefry-2x32) as a loop over whole arrays; written out they
are one pass, with all that it holds in registers (benchmarks/NOTES.md).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from ttl_jax.typing import Array, Bool

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))  # Salmon et al. 2011, table 4
PARITY = 0x1BD11BDA


def bernoulli(key: Array, chance: float, shape: tuple[int, ...]) -> Bool[Array, "..."]:
    """`jax.random.bernoulli` of a typed Threefry key.

    Args:
        key: typed, of no dimensions.
        chance: of True.
        shape: of fewer than 2**32 values.
    """
    on_cpu = jax.default_backend() == "cpu" and jax.config.jax_threefry_partitionable
    if not on_cpu or math.prod(shape) >= 2**32 or jax.random.key_impl(key) != "threefry2x32":
        return jax.random.bernoulli(key, chance, shape)
    words = _words(jax.random.key_data(key), shape)
    ones = lax.bitcast_convert_type((words >> 9) | jnp.uint32(0x3F800000), jnp.float32)  # from 1 to 2
    return ones - 1.0 < jnp.float32(chance)


def _words(key: Array, shape: tuple[int, ...]) -> Array:
    """32 random bits for each place: Threefry of the place's number, its two words together."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(PARITY))
    number = lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    high, low = jnp.zeros_like(number) + keys[0], number + keys[1]
    for group in range(5):
        for distance in ROTATIONS[group % 2]:
            high = high + low
            low = ((low << distance) | (low >> (32 - distance))) ^ high
        high = high + keys[(group + 1) % 3]
        low = low + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return high ^ low
