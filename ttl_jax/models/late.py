"""What XLA is not to make before its time, nor to hold until then."""

from __future__ import annotations

import jax.numpy as jnp

from ttl_jax.typing import Array, Float


def zero_of(g: Float[Array, "*shape"]) -> Float[Array, ""]:
    """A zero that XLA does not know to be one, and does not have before g.

    What it is added to is made when the program comes there: in a backward pass XLA:CPU neither keeps it
    from the forward pass nor makes it ahead of time.
    """
    first = g[(0,) * g.ndim]
    return jnp.where(jnp.abs(first) == -1, first, 0)
