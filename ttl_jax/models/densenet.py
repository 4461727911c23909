"""DenseNet as in torchvision (Huang et al. 2017; norm, ReLU, convolution)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ttl_jax.models.layers.basic import BatchNorm, Conv, average_pool, concatenate, norm_relu_conv
from ttl_jax.models.resnet import Stem  # the same in both families
from ttl_jax.models.unit import Plan, UnitSpec, build, unit
from ttl_jax.registry import register
from ttl_jax.typing import Array

DEPTHS = {
    "densenet121": (6, 12, 24, 16),
    "densenet169": (6, 12, 32, 32),
    "densenet201": (6, 12, 48, 32),
}
GROWTH, BOTTLENECK = 32, 4


class DenseLayer(nn.Module):
    """Adds `growth` channels to what came in."""

    growth: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, moving: bool, keys: Array | None) -> Array:
        conv1 = Conv(BOTTLENECK * self.growth, 1, dtype=self.dtype, name="conv1")
        conv2 = Conv(self.growth, 3, 1, 1, dtype=self.dtype, name="conv2")
        norm1, norm2 = (BatchNorm(dtype=self.dtype, name=name) for name in ("norm1", "norm2"))
        y = norm_relu_conv(norm1, conv1, x, moving)
        y = norm_relu_conv(norm2, conv2, y, moving)
        return concatenate(x, y)


class Transition(nn.Module):
    """Halves the channels and the resolution."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, moving: bool, keys: Array | None) -> Array:
        x = nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, moving))
        x = average_pool(x, 2, 2)  # torchvision's comes last: the same values, for four times the products
        return Conv(self.features, 1, dtype=self.dtype, name="conv")(x)


class NormReLU(BatchNorm):
    """BatchNorm and ReLU as a part of its own, its parameters directly at its path."""

    def __call__(self, x: Array, moving: bool, keys: Array | None = None) -> Array:
        return nn.relu(super().__call__(x, moving))


@register("backbone", *DEPTHS)
def plan(name: str, dtype: Any, slim_from: int | None, slim: int) -> Plan:
    """The units of a DenseNet.

    Args:
        name: a key of DEPTHS.
        dtype: compute type.
        slim_from: 1-based dense block from which the growth rate is divided by `slim`
            (the TransFusion hybrid of the TTL authors' code).
        slim: the divisor.
    """
    specs: list[UnitSpec] = [unit("stem", "stem", Stem, dtype=dtype)]
    channels, blocks = 64, len(DEPTHS[name])
    for block, depth in enumerate(DEPTHS[name], start=1):
        growth = GROWTH // slim if slim_from is not None and block >= slim_from else GROWTH
        for layer in range(1, depth + 1):
            path = f"dense{block}/layer{layer}"
            specs.append(unit(path, f"dense{block}", DenseLayer, growth=growth, dtype=dtype))
        channels += depth * growth
        if block < blocks:
            channels //= 2
            specs.append(
                unit(
                    f"transition{block}",
                    f"dense{block}",
                    Transition,
                    features=channels,
                    dtype=dtype,
                )
            )
    last = specs.pop()
    closing = ("norm", build(NormReLU, dtype=dtype))
    specs.append(UnitSpec(last.name, last.stage, (*last.parts, closing)))
    return Plan(tuple(specs))
