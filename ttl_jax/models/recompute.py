"""A convolution of ReLU(x * factor + offset) that keeps x alone for its gradient.

What BatchNorm and ReLU make of x is as large as x and is needed again for the kernel's gradient. Kept, it is
a third of the memory of DenseNet's step on a CPU; made again, it costs one pass (benchmarks/NOTES.md).
`jax.checkpoint` does not help there: XLA:CPU drops its barriers first, then finds the second making equal to
the first and keeps that. GPUs and TPUs are left to XLA.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ttl_jax.models.convolution import Padding, convolution, zero_of
from ttl_jax.typing import Array, Float


@partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def normalised_convolution(
    x: Float[Array, "n *space c"],
    factor: Float[Array, " c"],
    offset: Float[Array, " c"],
    kernel: Float[Array, "*window c_per_group features"],
    strides: tuple[int, ...],
    padding: Padding,
    groups: int,
) -> Float[Array, "n *space features"]:
    """`convolution` of ReLU(x * factor + offset), all of one type; the rest as there."""
    return convolution(_normalise(x, factor, offset), kernel, strides, padding, groups)


def _normalise(x: Array, factor: Array, offset: Array) -> Array:
    return nn.relu(x * factor + offset)


def _forward(x: Array, factor: Array, offset: Array, kernel: Array, *how: Any) -> tuple[Array, tuple]:
    return normalised_convolution(x, factor, offset, kernel, *how), (x, factor, offset, kernel)


def _backward(
    strides: tuple[int, ...], padding: Padding, groups: int, saved: tuple[Array, ...], g: Array
) -> tuple[Array, ...]:
    x, factor, offset, kernel = saved
    g, zero = lax.platform_dependent(g, cpu=_made_once, default=lambda g: (g, jnp.zeros((), g.dtype)))
    again, through = jax.vjp(_normalise, x, factor + zero, offset)
    _, both = jax.vjp(lambda y, kernel: convolution(y, kernel, strides, padding, groups), again, kernel)
    input_gradient, kernel_gradient = both(g)
    return (*through(input_gradient), kernel_gradient)


def _made_once(g: Array) -> tuple[Array, Array]:
    """The gradient, unchanged, and its `zero_of`.

    XLA:CPU makes what is cheap anew for each that takes it. In a dense block that is the sum over all layers
    above, once as it lies and once, reading in strides, transposed for the kernel's gradient. A division
    counts as dear, so it is made once; it is by 1, but for NaN, which stays NaN.
    """
    g = g / jnp.where(jnp.isnan(g), g, jnp.ones((), g.dtype))
    return g, zero_of(g)


normalised_convolution.defvjp(_forward, _backward)
