"""A convolution of ReLU(x * factor + offset) that keeps x alone for its gradient.

What BatchNorm and ReLU make of x is as large as x and is needed again for the kernel's gradient. Kept, it is
a third of the memory of DenseNet's step on a CPU; made again, it costs one pass (benchmarks/NOTES.md).
`jax.checkpoint` does not help there: XLA:CPU drops its barriers first, then finds the second making equal to
the first and keeps that. GPUs and TPUs are left to XLA.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad

from ttl_jax.models import cpu
from ttl_jax.models.cpu import convolution as forms
from ttl_jax.models.cpu.convolution import CONVOLVE, KERNEL_GRADIENT, Geometry, Padding, convolution
from ttl_jax.models.cpu.in_order import made_once, zero_of
from ttl_jax.models.cpu.operation import linear_in_last, operation
from ttl_jax.typing import Array, Float


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
    if not cpu.enabled(x):
        return convolution(nn.relu(x * factor + offset), kernel, strides, padding, groups)
    geometry = forms.geometry_of(x, kernel, strides, padding, groups)
    return _CONVOLVE.bind(x, factor, offset, kernel, how=geometry)


def _normalise(x: Array, factor: Array, offset: Array) -> Array:
    return nn.relu(x * factor + offset)


def _convolve_plain(geometry: Geometry, x: Array, factor: Array, offset: Array, kernel: Array) -> Array:
    return forms.plain(geometry, _normalise(x, factor, offset), kernel)


def _convolve(geometry: Geometry, x: Array, factor: Array, offset: Array, kernel: Array) -> Array:
    return forms.forward(geometry, _normalise(x, factor, offset), kernel)


def _kernel_gradient_plain(geometry: Geometry, x: Array, factor: Array, offset: Array, g: Array) -> Array:
    return forms.plain_kernel_gradient(geometry, _normalise(x, factor, offset), g)


def _kernel_gradient(geometry: Geometry, x: Array, factor: Array, offset: Array, g: Array) -> Array:
    """With the input made again, not before the gradient is there."""
    again = _normalise(x, made_once(factor + zero_of(g)), offset)
    return forms.kernel_gradient(geometry, again, g)


def _mask_plain(_: None, x: Array, factor: Array, offset: Array, tangent: Array) -> Array:
    return jnp.where(x * factor + offset > 0, tangent, 0)


def _mask(_: None, x: Array, factor: Array, offset: Array, tangent: Array) -> Array:
    return _mask_plain(_, x, made_once(factor + zero_of(tangent)), offset, tangent)


def _differentiate(primitive: Primitive, inner: Primitive) -> Callable[..., tuple[Array, Array]]:
    """Derive `primitive` forward: `inner` of its first three operands, normalised, and the last one."""

    def forward(primals: Any, tangents: Any, *, how: Geometry) -> tuple[Array, Array]:
        *given, last = primals
        *moved, last_moved = tangents
        parts = []
        if any(type(one) is not ad.Zero for one in moved):
            dense = tuple(map(ad.instantiate_zeros, moved))
            _, tangent = jax.jvp(lambda x, factor, offset: x * factor + offset, tuple(given), dense)
            parts.append(inner.bind(_MASK.bind(*given, tangent, how=None), last, how=how))
        if type(last_moved) is not ad.Zero:
            parts.append(primitive.bind(*given, last_moved, how=how))
        return primitive.bind(*primals, how=how), reduce(jnp.add, parts)

    return forward


_CONVOLVE = operation("normalised_convolution", _convolve_plain, _convolve, rows=(0,))
_KERNEL_GRADIENT = operation("normalised_kernel_gradient", _kernel_gradient_plain, _kernel_gradient)
_MASK = operation("relu_mask", _mask_plain, _mask, rows=(0, 3))
linear_in_last(_MASK, lambda g, *given, how: _MASK.bind(*given, g, how=how))
linear_in_last(
    _CONVOLVE,
    lambda g, *given, how: _KERNEL_GRADIENT.bind(*given, g, how=how),
    _differentiate(_CONVOLVE, CONVOLVE),
)
linear_in_last(
    _KERNEL_GRADIENT,
    lambda kernel, *given, how: _CONVOLVE.bind(*given, kernel, how=how),
    _differentiate(_KERNEL_GRADIENT, KERNEL_GRADIENT),
)
