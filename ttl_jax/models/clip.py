"""The image tower of CLIP's ResNet-50 (Radford et al. 2021): OpenAI's "ModifiedResNet".

Its blocks are ResNet's with average pools in the place of strides, against aliasing.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ttl_jax.models.layers.basic import BatchNorm, Conv, Dense, average_pool
from ttl_jax.models.resnet import Bottleneck
from ttl_jax.models.unit import Plan, UnitSpec, blocks, unit
from ttl_jax.registry import register
from ttl_jax.typing import Array, Float

DEPTHS, WIDTH = (3, 4, 6, 3), 64
HEADS, EMBEDDING, GRID = 32, 1024, 7  # of the attention pool; 7x7 is the last map of a 224 px image


class Stem(nn.Module):
    """Three 3x3 convolutions (the first with stride 2), then a 2x2 average pool."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, moving: bool, keys: Array | None) -> Array:
        for number, (features, stride) in enumerate(((WIDTH // 2, 2), (WIDTH // 2, 1), (WIDTH, 1)), start=1):
            x = Conv(features, 3, stride, 1, dtype=self.dtype, name=f"conv{number}")(x)
            x = nn.relu(BatchNorm(dtype=self.dtype, name=f"norm{number}")(x, moving))
        return average_pool(x, 2, 2)


class AttentionPool(nn.Module):
    """Multi-head attention of the mean position over itself and all positions, projected to 1024.

    Parameter `positions` (1 + 7 * 7, C): an embedding of the mean and of each place of a 224 px image's
    map. For a map of another size those of the places are resized (linear, with antialiasing).
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], moving: bool = False, keys: Array | None = None
    ) -> Float[Array, "n embedding"]:
        n, height, width, channels = x.shape
        scale = channels**-0.5
        start = nn.initializers.normal(scale)
        positions = self.param("positions", start, (1 + GRID * GRID, channels), jnp.float32)
        places = positions[1:].reshape(GRID, GRID, channels)
        if (height, width) != (GRID, GRID):
            places = jax.image.resize(places, (height, width, channels), "linear")
        embedded = jnp.concatenate([positions[:1], places.reshape(-1, channels)]).astype(self.dtype)
        x = x.reshape(n, height * width, channels)
        x = jnp.concatenate([x.mean(1, keepdims=True), x], axis=1) + embedded

        def split(name: str, x: Array) -> Array:
            """A linear layer, its result by head: (n, positions, heads, channels of a head)."""
            y = Dense(channels, self.dtype, name=name)(x.reshape(-1, channels))
            return y.reshape(n, -1, HEADS, channels // HEADS)

        mean = lax.slice_in_dim(x, 0, 1, axis=1)  # where the batch is a symbol too, as x[:, :1] is not
        query, key, value = split("query", mean), split("key", x), split("value", x)
        weights = jnp.einsum("nqhc,nkhc->nhqk", query * (channels // HEADS) ** -0.5, key)
        weights = jax.nn.softmax(weights.astype(jnp.float32), axis=-1).astype(self.dtype)
        mixed = jnp.einsum("nhqk,nkhc->nqhc", weights, value).reshape(n, channels)
        return Dense(EMBEDDING, self.dtype, name="out")(mixed)


@register("backbone", "clip_resnet50")
def plan(name: str, dtype: Any) -> Plan:
    """The units: stem, every block, and the attention pool, which a pooled head replaces."""
    specs: list[UnitSpec] = [unit("stem", "stem", Stem, dtype=dtype)]
    for block in blocks(DEPTHS):
        inner = WIDTH * 2**block.level
        specs.append(
            unit(
                block.name,
                block.stage,
                Bottleneck,
                inner=inner,
                features=4 * inner,
                stride=block.stride,
                project=block.first,
                pooled=True,
                dtype=dtype,
            )
        )
    specs.append(unit("attention", "own_pool", AttentionPool, dtype=dtype))
    return Plan(tuple(specs))
