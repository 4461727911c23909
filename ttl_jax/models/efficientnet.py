"""EfficientNet-B0 (torchvision's) and Lite0 to Lite2 (TensorFlow's, as the PyPI packages carry them).

Tan and Le 2019. The Lite ones have ReLU6 for SiLU, no squeeze-excite, and TensorFlow's asymmetric "SAME"
padding on strided convolutions; scaled, they keep the widths of stem and top, and the depths of the first and
the last stage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ttl_jax.models.layers.basic import BatchNorm, Conv, Dropout
from ttl_jax.models.unit import Plan, UnitSpec, narrow, unit
from ttl_jax.registry import register
from ttl_jax.typing import Array

# expansion, window, stride, output channels, repeats
STAGES = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
)  # fmt: skip
STEM, TOP, DROP_PATH = 32, 1280, 0.2


@dataclass(frozen=True)
class Flavour:
    """A variant of the family; `width` and `depth` multiply the stages' (Tan and Le 2019, section 3.3)."""

    activation: str
    squeeze_excite: bool
    same_padding: bool
    epsilon: float
    width: float = 1.0
    depth: float = 1.0
    dropout: float = 0.2


FLAVOURS = {
    "efficientnet_b0": Flavour("silu", True, False, 1e-5),
    "efficientnet_lite0": Flavour("relu6", False, True, 1e-3),
    "efficientnet_lite1": Flavour("relu6", False, True, 1e-3, 1.0, 1.1),
    "efficientnet_lite2": Flavour("relu6", False, True, 1e-3, 1.1, 1.2, 0.3),
}
ACTIVATIONS = {"silu": jax.nn.silu, "relu6": jax.nn.relu6}


def stages(name: str) -> tuple[tuple[int, int, int, int, int], ...]:
    """STAGES, scaled: widths to multiples of 8 that lose at most a tenth, depths rounded up."""
    flavour, last = FLAVOURS[name], len(STAGES) - 1

    def width(features: int) -> int:
        wanted = features * flavour.width
        rounded = max(8, int(wanted + 4) // 8 * 8)
        return rounded if rounded >= 0.9 * wanted else rounded + 8

    def depth(stage: int, repeats: int) -> int:
        return repeats if stage in (0, last) else math.ceil(repeats * flavour.depth)

    return tuple(
        (expansion, size, stride, width(features), depth(stage, repeats))
        for stage, (expansion, size, stride, features, repeats) in enumerate(STAGES)
    )


class ConvNorm(nn.Module):
    """Convolution and norm, with the activation where asked for."""

    features: int
    size: int
    flavour: Flavour
    stride: int = 1
    groups: int = 1
    activate: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, moving: bool, keys: Array | None = None) -> Array:
        flavour = self.flavour
        padding = "SAME" if flavour.same_padding else self.size // 2
        x = Conv(
            self.features,
            self.size,
            self.stride,
            padding,
            self.groups,
            dtype=self.dtype,
            name="conv",
        )(x)
        norm = BatchNorm(epsilon=flavour.epsilon, dtype=self.dtype, name="norm")
        x = norm(x, moving)
        return ACTIVATIONS[flavour.activation](x) if self.activate else x


class SqueezeExcite(nn.Module):
    """Channel gates from the pooled map (Hu et al. 2018)."""

    squeezed: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        gate = x.mean((1, 2), keepdims=True)
        gate = Conv(self.squeezed, 1, bias=True, dtype=self.dtype, name="reduce")(gate)
        gate = Conv(x.shape[-1], 1, bias=True, dtype=self.dtype, name="expand")(jax.nn.silu(gate))
        return x * jax.nn.sigmoid(gate)


class MBConv(nn.Module):
    """Inverted residual: expand to `inner` channels, depthwise, squeeze-excite, project."""

    expand: bool
    inner: int
    size: int
    stride: int
    features: int
    drop_path: float
    flavour: Flavour
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, moving: bool, keys: Array | None) -> Array:
        channels, flavour, dtype = x.shape[-1], self.flavour, self.dtype
        y = x
        if self.expand:
            y = ConvNorm(self.inner, 1, flavour, dtype=dtype, name="expand")(y, moving)
        depthwise = ConvNorm(y.shape[-1], self.size, flavour, self.stride, 0, dtype=dtype, name="depthwise")
        y = depthwise(y, moving)
        if flavour.squeeze_excite:
            y = SqueezeExcite(max(1, channels // 4), dtype, name="squeeze_excite")(y)
        y = ConvNorm(self.features, 1, flavour, activate=False, dtype=dtype, name="project")(y, moving)
        if self.stride == 1 and channels == self.features:
            y = x + Dropout(self.drop_path, whole=True, name="drop_path")(y, keys)
        return y


@register("backbone", *FLAVOURS)
def plan(name: str, dtype: Any, slim_from: int | None, slim: int) -> Plan:
    """The units of an EfficientNet: stem, every MBConv, and the last 1x1 convolution ("top").

    Args:
        name: a key of FLAVOURS.
        dtype: compute type.
        slim_from: 1-based MBConv from which the inner widths are divided by `slim`; outer widths as in
            a ResNet: kept in the stage where that begins, divided in later ones and in the top.
        slim: the divisor.
    """
    flavour, scaled = FLAVOURS[name], stages(name)
    total = sum(repeats for *_, repeats in scaled)
    shared = {"flavour": flavour, "dtype": dtype}
    specs: list[UnitSpec] = [unit("stem", "stem", ConvNorm, features=STEM, size=3, stride=2, **shared)]
    number, channels = 0, STEM
    for stage, (expansion, size, stride, features, repeats) in enumerate(scaled, start=1):
        outer = narrow(features, number + 1, slim_from, slim)
        for block in range(1, repeats + 1):
            specs.append(
                unit(
                    f"stage{stage}/block{block}",
                    f"stage{stage}",
                    MBConv,
                    expand=expansion != 1,
                    inner=narrow(channels * expansion, number + 1, slim_from, slim),
                    size=size,
                    stride=stride if block == 1 else 1,
                    features=outer,
                    drop_path=DROP_PATH * number / total,
                    **shared,
                )
            )
            number, channels = number + 1, features
    top = narrow(TOP, number, slim_from, slim)
    specs.append(unit("top", "top", ConvNorm, features=top, size=1, **shared))
    return Plan(tuple(specs), dropout=flavour.dropout)
