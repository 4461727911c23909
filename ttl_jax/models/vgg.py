"""VGG as in torchvision (Simonyan and Zisserman 2015), with and without BatchNorm."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from ttl_jax.models.densenet import NormReLU
from ttl_jax.models.layers.basic import (
    Activation,
    Conv,
    Dense,
    Dropout,
    adaptive_average_pool,
    max_pool,
)
from ttl_jax.models.unit import Plan, UnitSpec, build, narrow, unit
from ttl_jax.registry import register
from ttl_jax.typing import Array

DEPTHS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
FULLY_CONNECTED, GRID = 4096, 7


class ConvPart(Conv):
    """A 3x3 convolution with bias as a part of its own, its parameters directly at its path."""

    def __call__(self, x: Array, moving: bool = False, keys: Array | None = None) -> Array:
        return super().__call__(x)


class FullyConnected(Dense):
    """Linear, ReLU, dropout 0.5; the first one takes torch's 7x7 grid (here flattened as HWC)."""

    @nn.compact
    def __call__(self, x: Array, moving: bool = False, keys: Array | None = None) -> Array:
        if x.ndim > 2:
            x = adaptive_average_pool(x, GRID)
            x = x.reshape(x.shape[0], -1)
        return Dropout(0.5, name="drop")(nn.relu(super().__call__(x)), keys)


def _pool(x: Array) -> Array:
    return max_pool(x, 2, 2)


@register("backbone", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn")
def plan(name: str, dtype: Any, slim_from: int | None, slim: int) -> Plan:
    """The units of a VGG: each convolution with its ReLU, each pool, and fc1, fc2.

    `slim_from` is the 1-based convolution from which widths, those of fc1 and fc2 too, are divided.
    """
    depths = DEPTHS[name.removesuffix("_bn")]
    with_norm = name.endswith("_bn")
    specs: list[UnitSpec] = []
    counted = 0
    for stage, (depth, width) in enumerate(zip(depths, WIDTHS, strict=True), start=1):
        for number in range(1, depth + 1):
            counted += 1
            path, features = f"stage{stage}/conv{number}", narrow(width, counted, slim_from, slim)
            conv = build(ConvPart, features=features, size=3, padding=1, bias=True, dtype=dtype)
            follow = (
                (f"stage{stage}/norm{number}", build(NormReLU, dtype=dtype))
                if with_norm
                else (f"stage{stage}/relu{number}", build(Activation, function=nn.relu))
            )
            specs.append(UnitSpec(path, f"stage{stage}", ((path, conv), follow)))
        specs.append(unit(f"stage{stage}/pool", f"stage{stage}", Activation, function=_pool))
    wide = narrow(FULLY_CONNECTED, counted, slim_from, slim)
    for name_ in ("classifier/fc1", "classifier/fc2"):
        specs.append(unit(name_, "classifier", FullyConnected, features=wide, dtype=dtype))
    return Plan(tuple(specs))
