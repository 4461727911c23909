"""AlexNet as in torchvision (Krizhevsky 2014, "one weird trick")."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from ttl_jax.models.layers.basic import Activation, Dense, Dropout, adaptive_average_pool, max_pool
from ttl_jax.models.unit import Plan, UnitSpec, build, narrow, unit
from ttl_jax.models.vgg import ConvPart
from ttl_jax.registry import register
from ttl_jax.typing import Array

# of every stage its convolutions: features, window, stride, padding; a 3x3/2 max-pool closes the stage
STAGES = (
    ((64, 11, 4, 2),),
    ((192, 5, 1, 2),),
    ((384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1)),
)
FULLY_CONNECTED, GRID = 4096, 6
FLAT_SIZE = 256 * GRID * GRID  # what fc1 takes: the TTL authors pool early cuts down to about it


class FullyConnected(Dense):
    """Dropout 0.5, linear, ReLU; the first one takes torch's 6x6 grid (here flattened as HWC)."""

    @nn.compact
    def __call__(self, x: Array, moving: bool = False, keys: Array | None = None) -> Array:
        if x.ndim > 2:
            x = adaptive_average_pool(x, GRID)
            x = x.reshape(x.shape[0], -1)
        return nn.relu(super().__call__(Dropout(0.5, name="drop")(x, keys)))


def _pool(x: Array) -> Array:
    return max_pool(x, 3, 2)


@register("backbone", "alexnet")
def plan(name: str, dtype: Any, slim_from: int | None, slim: int) -> Plan:
    """The units of AlexNet: each convolution with its ReLU, each pool, and fc1, fc2.

    `slim_from` is the 1-based convolution from which widths, those of fc1 and fc2 too, are divided.
    """
    specs: list[UnitSpec] = []
    counted = 0
    for stage, convolutions in enumerate(STAGES, start=1):
        for number, (features, size, stride, padding) in enumerate(convolutions, start=1):
            counted += 1
            path, width = f"stage{stage}/conv{number}", narrow(features, counted, slim_from, slim)
            conv = build(
                ConvPart, features=width, size=size, stride=stride, padding=padding, bias=True, dtype=dtype
            )
            relu = (f"stage{stage}/relu{number}", build(Activation, function=nn.relu))
            specs.append(UnitSpec(path, f"stage{stage}", ((path, conv), relu)))
        specs.append(unit(f"stage{stage}/pool", f"stage{stage}", Activation, function=_pool))
    wide = narrow(FULLY_CONNECTED, counted, slim_from, slim)
    for path in ("classifier/fc1", "classifier/fc2"):
        specs.append(unit(path, "classifier", FullyConnected, features=wide, dtype=dtype))
    return Plan(tuple(specs), flat_size=FLAT_SIZE)
