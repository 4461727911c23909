"""BiT: ResNet v2 with GroupNorm and weight standardisation (Kolesnikov et al. 2020, Big Transfer)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ttl_jax.models.layers.basic import max_pool
from ttl_jax.models.layers.group_norm import GroupNorm, StandardisedConv
from ttl_jax.models.unit import Plan, UnitSpec, blocks, build, unit
from ttl_jax.registry import register
from ttl_jax.typing import Array

# name -> blocks a stage, factor of every width
NETWORKS = {"bit_r50x1": ((3, 4, 6, 3), 1), "bit_r50x3": ((3, 4, 6, 3), 3)}
WIDTH, GROUPS = 64, 32


class Stem(nn.Module):
    """7x7/2 convolution, 3x3/2 max-pool: no norm, since the blocks begin with one.

    The map is padded with zeros before the pool, which may win, as in TensorFlow's original.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, moving: bool, keys: Array | None) -> Array:
        x = StandardisedConv(self.features, 7, 2, 3, dtype=self.dtype, name="conv")(x)
        return max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 2)


class PreActivationBottleneck(nn.Module):
    """Norm and ReLU before each of 1x1, 3x3 (with the stride) and 1x1 to four times the width."""

    inner: int
    stride: int
    project: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, moving: bool, keys: Array | None) -> Array:
        features, dtype = 4 * self.inner, self.dtype

        def ready(x: Array, name: str) -> Array:
            return nn.relu(GroupNorm(GROUPS, dtype=dtype, name=name)(x))

        y = ready(x, "norm1")
        if self.project:
            x = StandardisedConv(features, 1, self.stride, dtype=dtype, name="shortcut")(y)
        y = StandardisedConv(self.inner, 1, dtype=dtype, name="conv1")(y)
        y = StandardisedConv(self.inner, 3, self.stride, 1, dtype=dtype, name="conv2")(ready(y, "norm2"))
        y = StandardisedConv(features, 1, dtype=dtype, name="conv3")(ready(y, "norm3"))
        return x + y


class GroupNormReLU(GroupNorm):
    """GroupNorm and ReLU as a part of its own, its parameters directly at its path."""

    @nn.compact
    def __call__(self, x: Array, moving: bool = False, keys: Array | None = None) -> Array:
        return nn.relu(super().__call__(x))


@register("backbone", *NETWORKS)
def plan(name: str, dtype: Any) -> Plan:
    """The units of a BiT network: the stem and every block; the last one closes with norm and ReLU."""
    depths, factor = NETWORKS[name]
    specs: list[UnitSpec] = [unit("stem", "stem", Stem, features=WIDTH * factor, dtype=dtype)]
    for block in blocks(depths):
        specs.append(
            unit(
                block.name,
                block.stage,
                PreActivationBottleneck,
                inner=WIDTH * factor * 2**block.level,
                stride=block.stride,
                project=block.first,
                dtype=dtype,
            )
        )
    last = specs.pop()
    closing = ("norm", build(GroupNormReLU, groups=GROUPS, dtype=dtype))
    specs.append(UnitSpec(last.name, last.stage, (*last.parts, closing)))
    return Plan(tuple(specs))
