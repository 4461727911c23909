"""EMA: an exponential moving average of the weights is validated and kept in their place.

    theta_bar <- d theta_bar + (1 - d) theta after every step, d = min(decay, (1 + t) / (10 + t))

Frozen leaves are equal in all weights, so the mean leaves them bitwise as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from ttl_jax.errors import UserError
from ttl_jax.strategies.parts.part import END, Leaves, Part
from ttl_jax.typing import Array, Float, Int


@dataclass(frozen=True)
class Ema(Part):
    """Exponential moving average of weights and statistics; it is what is validated and kept."""

    decay: float

    slot = END
    needs_values = False
    averages = True

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise UserError(f"ema: decay={self.decay} must be at least 0 and below 1")

    def average(self, average: Leaves, values: Leaves, step: Array) -> Leaves:
        return ema_update(average, values, ema_decay(self.decay, step))


def ema_decay(decay: float, steps: Int[Array, ""]) -> Float[Array, ""]:
    """The decay of one step: short memory at first, so that the start is forgotten."""
    age = steps.astype(jnp.float32)
    return jnp.minimum(decay, (1 + age) / (10 + age))


def ema_update(average: Leaves, values: Leaves, decay: Float[Array, ""]) -> dict[str, Array]:
    """One step of the average, leaf by leaf."""
    return {path: old + (1 - decay) * (values[path] - old) for path, old in average.items()}
