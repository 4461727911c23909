"""PENet, a 3D ResNeXt with squeeze-excite and GroupNorm (Huang et al. 2020, pulmonary embolism in CT).

The classifier that its authors pretrained on Kinetics-600 (marshuang80/penet).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ttl_jax.models.layers.basic import Conv, Dense, Dropout, max_pool
from ttl_jax.models.layers.group_norm import GroupNorm
from ttl_jax.models.unit import Plan, UnitSpec, blocks, unit
from ttl_jax.models.volume import VolumeConv
from ttl_jax.registry import register
from ttl_jax.typing import Array, Float

DEPTHS, WIDTH = (3, 4, 6, 3), 128
CARDINALITY, EXPANSION, REDUCTION = 32, 2, 16
CHANNELS_A_GROUP = 16  # of the GroupNorms
DROP_PATH = 0.5  # of a block above the last one; it grows linearly from the first


def _norm(features: int, dtype: Any, name: str) -> GroupNorm:
    return GroupNorm(features // CHANNELS_A_GROUP, dtype=dtype, name=name)


class Stem(nn.Module):
    """7x7x7 convolution that halves each slice, norm, leaky ReLU, 3x3x3/2 max-pool."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, moving: bool, keys: Array | None) -> Array:
        x = VolumeConv(64, (7, 7, 7), (1, 2, 2), self.dtype, name="conv")(x)
        return max_pool(nn.leaky_relu(_norm(64, self.dtype, "norm")(x), 0.01), 3, 2, 1)


class SqueezeExcite(nn.Module):
    """Channel gates from the pooled map (Hu et al. 2018)."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "n d h w c"]) -> Float[Array, "n d h w c"]:
        channels = x.shape[-1]
        gate = Dense(channels // REDUCTION, self.dtype, name="reduce")(x.mean((1, 2, 3)))
        gate = Dense(channels, self.dtype, name="expand")(nn.leaky_relu(gate, 0.01))
        return x * jax.nn.sigmoid(gate)[:, None, None, None]


class Shortcut(nn.Module):
    """Projection where a block changes the width or the resolution."""

    features: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = Conv(self.features, 1, self.stride, dtype=self.dtype, name="conv")(x)
        return _norm(self.features, self.dtype, "norm")(x)


class Block(nn.Module):
    """1x1x1, 3x3x3 in 32 groups (with the stride), 1x1x1 to twice the width, squeeze-excite.

    Stochastic depth drops the residual of single examples and scales the others up, so that inference
    sees the same expectation; the authors drop it for a whole batch and do not scale.
    """

    inner: int
    stride: int
    project: bool
    drop_path: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, moving: bool, keys: Array | None) -> Array:
        features, dtype = EXPANSION * self.inner, self.dtype
        y = Conv(self.inner, 1, dtype=dtype, name="conv1")(x)
        y = nn.leaky_relu(_norm(self.inner, dtype, "norm1")(y), 0.01)
        y = Conv(self.inner, 3, self.stride, 1, CARDINALITY, dtype=dtype, name="conv2")(y)
        y = nn.leaky_relu(_norm(self.inner, dtype, "norm2")(y), 0.01)
        y = Conv(features, 1, dtype=dtype, name="conv3")(y)
        y = SqueezeExcite(dtype, name="squeeze_excite")(_norm(features, dtype, "norm3")(y))
        if self.project:
            x = Shortcut(features, self.stride, dtype, name="shortcut")(x)
        return nn.leaky_relu(x + Dropout(self.drop_path, whole=True, name="drop_path")(y, keys), 0.01)


@register("backbone", "penet")
def plan(name: str, dtype: Any) -> Plan:
    """The units of PENet's classifier: stem and every block."""
    specs: list[UnitSpec] = [unit("stem", "stem", Stem, dtype=dtype)]
    for block in blocks(DEPTHS):
        specs.append(
            unit(
                block.name,
                block.stage,
                Block,
                inner=WIDTH * 2**block.level,
                stride=block.stride,
                project=block.first,
                drop_path=DROP_PATH * (block.number - 1) / sum(DEPTHS),
                dtype=dtype,
            )
        )
    return Plan(tuple(specs), dimensions=3)
