"""ResNet v1.5 as in torchvision (He et al. 2016; the stride sits on the 3x3 convolution)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ttl_jax.models.layers.basic import BatchNorm, Conv, average_pool, max_pool
from ttl_jax.models.unit import Plan, UnitSpec, blocks, unit
from ttl_jax.registry import register
from ttl_jax.typing import Array

DEPTHS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
BASIC = frozenset({"resnet18", "resnet34"})
WIDTHS = (64, 128, 256, 512)


class Stem(nn.Module):
    """7x7/2 convolution, norm, ReLU, 3x3/2 max-pool."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, moving: bool, keys: Array | None) -> Array:
        x = Conv(64, 7, 2, 3, dtype=self.dtype, name="conv")(x)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, moving))
        return max_pool(x, 3, 2, 1)


class Shortcut(nn.Module):
    """Projection where a block changes the width or the resolution.

    Attributes:
        pooled: an average pool in the place of the stride (CLIP).
    """

    features: int
    stride: int
    dtype: Any
    pooled: bool = False

    @nn.compact
    def __call__(self, x: Array, moving: bool) -> Array:
        stride = self.stride
        if self.pooled and stride > 1:
            x, stride = average_pool(x, stride, stride), 1
        x = Conv(self.features, 1, stride, dtype=self.dtype, name="conv")(x)
        return BatchNorm(dtype=self.dtype, name="norm")(x, moving)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions."""

    inner: int
    features: int
    stride: int
    project: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, moving: bool, keys: Array | None) -> Array:
        y = Conv(self.inner, 3, self.stride, 1, dtype=self.dtype, name="conv1")(x)
        y = nn.relu(BatchNorm(dtype=self.dtype, name="norm1")(y, moving))
        y = Conv(self.features, 3, 1, 1, dtype=self.dtype, name="conv2")(y)
        y = BatchNorm(dtype=self.dtype, name="norm2")(y, moving)
        if self.project:
            x = Shortcut(self.features, self.stride, self.dtype, name="shortcut")(x, moving)
        return nn.relu(x + y)


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 to four times the width.

    Attributes:
        pooled: an average pool in the place of the stride (CLIP).
    """

    inner: int
    features: int
    stride: int
    project: bool
    dtype: Any = jnp.float32
    pooled: bool = False

    @nn.compact
    def __call__(self, x: Array, moving: bool, keys: Array | None) -> Array:
        y = Conv(self.inner, 1, dtype=self.dtype, name="conv1")(x)
        y = nn.relu(BatchNorm(dtype=self.dtype, name="norm1")(y, moving))
        y = Conv(self.inner, 3, 1 if self.pooled else self.stride, 1, dtype=self.dtype, name="conv2")(y)
        y = nn.relu(BatchNorm(dtype=self.dtype, name="norm2")(y, moving))
        if self.pooled and self.stride > 1:
            y = average_pool(y, self.stride, self.stride)
        y = Conv(self.features, 1, dtype=self.dtype, name="conv3")(y)
        y = BatchNorm(dtype=self.dtype, name="norm3")(y, moving)
        if self.project:
            x = Shortcut(self.features, self.stride, self.dtype, self.pooled, name="shortcut")(x, moving)
        return nn.relu(x + y)


@register("backbone", *DEPTHS)
def plan(name: str, dtype: Any, slim_from: int | None, slim: int) -> Plan:
    """The units of a ResNet.

    Args:
        name: a key of DEPTHS.
        dtype: compute type.
        slim_from: 1-based residual block from which inner widths are divided by `slim`. In the stage
            where that begins the outer width stays as its first block has it; later stages are slim
            as a whole (Raghu et al. 2019, TransFusion, as in the TTL authors' code).
        slim: the divisor.
    """
    kind, expansion = (BasicBlock, 1) if name in BASIC else (Bottleneck, 4)
    first_slim = slim_from if slim_from is not None else sum(DEPTHS[name]) + 1
    specs: list[UnitSpec] = [unit("stem", "stem", Stem, dtype=dtype)]
    channels = outer = 64
    for block in blocks(DEPTHS[name]):
        width = WIDTHS[block.level]
        inner = width // slim if block.number >= first_slim else width
        outer = expansion * inner if block.first else outer
        specs.append(
            unit(
                block.name,
                block.stage,
                kind,
                inner=inner,
                features=outer,
                stride=block.stride,
                project=block.stride != 1 or channels != outer,
                dtype=dtype,
            )
        )
        channels = outer
    return Plan(tuple(specs))
