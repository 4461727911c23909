"""The CBR family: small networks of convolution, BatchNorm, ReLU (Raghu et al. 2019, TransFusion).

Widths as in the TTL authors' code (sun-umn/TTL, utils/CBR.py). No convolution is padded, so they want
large images: at least 221 px (LargeT), 121 px (LargeW, Small) or 91 px (Tiny).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ttl_jax.models.densenet import NormReLU
from ttl_jax.models.layers.basic import Activation, max_pool
from ttl_jax.models.unit import Plan, UnitSpec, build, narrow, unit
from ttl_jax.models.vgg import ConvPart
from ttl_jax.registry import register
from ttl_jax.typing import Array

DROPOUT = 0.1


@dataclass(frozen=True)
class Flavour:
    """Window, widths from the bottom, and whether the last stage is pooled too."""

    window: int
    widths: tuple[int, ...]
    last_pool: bool


FLAVOURS = {
    "cbr_larget": Flavour(7, (32, 64, 128, 256, 512), False),
    "cbr_largew": Flavour(7, (64, 128, 256, 512), True),
    "cbr_small": Flavour(7, (32, 64, 128, 256), True),
    "cbr_tiny": Flavour(5, (64, 128, 256, 512), True),
}


def _pool(x: Array) -> Array:
    return max_pool(x, 3, 2)


@register("backbone", *FLAVOURS)
def plan(name: str, dtype: Any, slim_from: int | None, slim: int) -> Plan:
    """The units of a CBR network: each convolution with its norm and ReLU, and each pool.

    `slim_from` is the 1-based convolution from which widths are divided.
    """
    flavour = FLAVOURS[name]
    specs: list[UnitSpec] = []
    for number, width in enumerate(flavour.widths, start=1):
        stage = f"stage{number}"
        features = narrow(width, number, slim_from, slim)
        conv = build(ConvPart, features=features, size=flavour.window, bias=True, dtype=dtype)
        norm = build(NormReLU, dtype=dtype)
        specs.append(UnitSpec(f"{stage}/conv", stage, ((f"{stage}/conv", conv), (f"{stage}/norm", norm))))
        if number < len(flavour.widths) or flavour.last_pool:
            specs.append(unit(f"{stage}/pool", stage, Activation, function=_pool))
    return Plan(tuple(specs), dropout=DROPOUT)
