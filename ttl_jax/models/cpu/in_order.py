"""When XLA:CPU makes a value: not before its time, not twice, and not held until then.

It makes what is cheap anew for each that takes it, and the rest as early as it can, to hold it from then on.
These functions change no value.
"""

from __future__ import annotations

import jax.numpy as jnp

from ttl_jax.typing import Array, Float


def zero_of(g: Float[Array, "*shape"]) -> Float[Array, ""]:
    """Return a zero that XLA does not know to be one, and does not have before g.

    What it is added to is made when the program comes there: in a backward pass XLA:CPU neither keeps it
    from the forward pass nor makes it ahead of time.
    """
    first = g[(0,) * g.ndim]
    return jnp.where(jnp.abs(first) == -1, first, 0)


def made_once(value: Array) -> Array:
    """Return the value, which XLA:CPU makes once.

    A division counts as dear; it is by 1, but for NaN, which stays NaN.
    """
    return value / jnp.where(jnp.isnan(value), value, jnp.ones((), value.dtype))
