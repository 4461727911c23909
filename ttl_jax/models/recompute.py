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

from ttl_jax.models.convolution import Padding, convolution
from ttl_jax.models.late import zero_of
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
    g, factor = lax.platform_dependent(g, factor, cpu=_late, default=lambda g, factor: (g, factor))
    again, through = jax.vjp(_normalise, x, factor, offset)
    _, both = jax.vjp(lambda y, kernel: convolution(y, kernel, strides, padding, groups), again, kernel)
    input_gradient, kernel_gradient = both(g)
    return (*through(input_gradient), kernel_gradient)


def _late(g: Array, factor: Array) -> tuple[Array, Array]:
    """The gradient and the factor, unchanged; the factor not before the gradient is there.

    In a dense block the gradient is the sum over all layers above, which XLA:CPU would make once as it lies
    and once, reading in strides, transposed for the kernel's gradient.
    """
    g = _made_once(g)
    return g, _made_once(factor + zero_of(g))


def _made_once(value: Array) -> Array:
    """The value, unchanged, but XLA:CPU makes it once.

    It makes what is cheap anew for each that takes it, and for each place that a vector is spread to. A
    division counts as dear; it is by 1, but for NaN, which stays NaN.
    """
    return value / jnp.where(jnp.isnan(value), value, jnp.ones((), value.dtype))


@jax.custom_vjp
def gradients_once(values: tuple[Float[Array, " c"], ...]) -> tuple[Float[Array, " c"], ...]:
    """The values, unchanged; on a CPU their gradients are made once, before they are spread over a map.

    A BatchNorm's two are chains of some twenty operations on its channels, which XLA:CPU would go through
    again for every position.
    """
    return values


def _gradients_once(_: None, gradients: tuple[Array, ...]) -> tuple[tuple[Array, ...]]:
    made = lax.platform_dependent(
        *gradients,
        cpu=lambda *gradients: tuple(map(_made_once, gradients)),
        default=lambda *gradients: gradients,
    )
    return (made,)


gradients_once.defvjp(lambda values: (values, None), _gradients_once)
normalised_convolution.defvjp(_forward, _backward)
