"""The one convolution that every network calls, with the forms that are fast on a CPU.

XLA's CPU backend runs depthwise convolutions, and the weight gradients of 1x1 convolutions, 5 to 100
times slower than the same sums written as shifted multiply-adds and as matrix products, and the input
gradients of strided kernels, and of wide ones on small maps, up to 2 times slower (benchmarks/NOTES.md).
What a weight gradient takes, a transposed copy of the input, it makes in the forward pass already and
keeps until then, and it makes it from whatever the input is made of, reading all of that in strides.
`lax.platform_dependent` keeps GPU and TPU on the plain convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ttl_jax.models import winograd
from ttl_jax.models.late import zero_of
from ttl_jax.typing import Array, Float

# Values of a map from which on reading in strides is dearer than a loop: 4 MB, caches no longer help.
LARGE = 1 << 20

Padding = str | Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Geometry:
    """Strides, explicit (low, high) paddings, and feature groups of a convolution."""

    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    groups: int


def convolution(
    x: Float[Array, "n *space c"],
    kernel: Float[Array, "*window c_per_group features"],
    strides: Sequence[int],
    padding: Padding,
    groups: int = 1,
) -> Float[Array, "n *space features"]:
    """Channels-last convolution (cross-correlation, as torch's) in two or three dimensions.

    Args:
        x: input.
        kernel: HWIO or DHWIO.
        strides: one a spatial dimension.
        padding: explicit (low, high) pairs (torch), or "SAME" (TensorFlow; asymmetric when strided).
        groups: feature groups; depthwise has as many as channels.
    """
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:-1], kernel.shape[:-2], tuple(strides), padding)
    pairs = tuple((int(low), int(high)) for low, high in padding)
    geometry = Geometry(tuple(strides), pairs, groups)
    ours = x.ndim == 4 and (groups == 1 or _is_depthwise(x, kernel, groups))
    return _fast(geometry, x, kernel) if ours else _plain(geometry, x, kernel)


def _is_depthwise(x: Array, kernel: Array, groups: int) -> bool:
    return groups > 1 and groups == x.shape[-1] == kernel.shape[-1]


def _is_pointwise(kernel: Array, geometry: Geometry) -> bool:
    without_padding = all(pair == (0, 0) for pair in geometry.padding)
    return geometry.groups == 1 and kernel.shape[:-2] == (1, 1) and without_padding


def _is_wide(x: Array, kernel: Array, geometry: Geometry) -> bool:
    """Whether the input's gradient, of a convolution without groups, is better one product with all taps.

    It is where the kernel outweighs the map, so that XLA's flipped copy of it would cost the most; and where
    strides would have XLA convolve a map of zeros but for one position in four. Not with few channels: the
    shares of a stem's taps would be many times its input.
    """
    if _overhangs(geometry, x, kernel) or (max(geometry.strides) > 1 and x.shape[-1] >= 16):
        return True
    strides, pads = geometry.strides, geometry.padding
    sizes = zip(x.shape[1:-1], kernel.shape[:-2], strides, pads, strict=True)
    positions = x.shape[0] * math.prod(
        (length + sum(pad) - window) // stride + 1 for length, window, stride, pad in sizes
    )
    return positions <= 4 * kernel.shape[-1]


def _plain(geometry: Geometry, x: Array, kernel: Array) -> Array:
    layout = ("NHWC", "HWIO", "NHWC") if x.ndim == 4 else ("NDHWC", "DHWIO", "NDHWC")
    return lax.conv_general_dilated(
        x, kernel, geometry.strides, geometry.padding,
        dimension_numbers=layout, feature_group_count=geometry.groups,
    )  # fmt: skip


# A network has many layers of one shape: both branches of each form are traced for the first of them.
_traced_once = partial(jax.jit, static_argnums=0, inline=True)


# The rule for the gradient is custom so that each of the three results chooses its own form; a
# derivative taken through `platform_dependent` would keep the residuals of every branch.
@partial(jax.custom_vjp, nondiff_argnums=(0,))
@_traced_once
def _fast(geometry: Geometry, x: Array, kernel: Array) -> Array:
    return _on_cpu(_forms(geometry, x, kernel).forward or _plain, _plain)(geometry, x, kernel)


def _fast_forward(geometry: Geometry, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _fast(geometry, x, kernel), (x, kernel)


@_traced_once
def _fast_backward(geometry: Geometry, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved

    def plain_dx(geometry: Geometry, g: Array, kernel: Array) -> Array:
        return jax.linear_transpose(lambda x: _plain(geometry, x, kernel), x)(g)[0]

    def plain_dw(geometry: Geometry, x: Array, g: Array) -> Array:
        return jax.linear_transpose(lambda kernel: _plain(geometry, x, kernel), kernel)(g)[0]

    def late_dw(geometry: Geometry, x: Array, g: Array) -> Array:
        late = _written if x.size >= LARGE else jnp.add
        return plain_dw(geometry, late(x, zero_of(g)), g)

    forms = _forms(geometry, x, kernel)
    return (
        _on_cpu(partial(forms.dx, x.shape) if forms.dx else plain_dx, plain_dx)(geometry, g, kernel),
        _on_cpu(partial(forms.dw, kernel.shape) if forms.dw else late_dw, plain_dw)(geometry, x, g),
    )


_fast.defvjp(_fast_forward, _fast_backward)


@jax.custom_vjp
def _written(x: Array, zero: Array) -> Array:
    """x, written down as it lies, not before `zero` (of `zero_of`) is there.

    XLA fuses nothing across a loop, and does not know that this one goes round once. So the transposed copy
    of x, which comes next, is a copy, in blocks, and no longer BatchNorm and ReLU read in strides.
    """

    def once(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        _, x = carry
        first = lax.slice(x, (0,) * x.ndim, (1,) * x.ndim) + zero
        return jnp.bool_(False), lax.dynamic_update_slice(x, first, (0,) * x.ndim)

    return lax.while_loop(lambda carry: carry[0], once, (zero == 0, x + zero))[1]


# An identity: a loop of unknown length has no derivative in reverse, for who takes a second one.
_written.defvjp(lambda x, zero: (_written(x, zero), zero), lambda zero, g: (g, jnp.zeros_like(zero)))


def _on_cpu(cpu: Callable[..., Array], other: Callable[..., Array]) -> Callable[..., Array]:
    """A function of (geometry, array, array) that takes one form on CPUs and another elsewhere."""

    def choose(geometry: Geometry, a: Array, b: Array) -> Any:
        return lax.platform_dependent(a, b, cpu=partial(cpu, geometry), default=partial(other, geometry))

    return choose


class Forms(NamedTuple):
    """What a CPU computes the three results with; None is the plain form."""

    forward: Callable[[Geometry, Array, Array], Array] | None = None
    dx: Callable[[tuple[int, ...], Geometry, Array, Array], Array] | None = None
    dw: Callable[[tuple[int, ...], Geometry, Array, Array], Array] | None = None


def _forms(geometry: Geometry, x: Array, kernel: Array) -> Forms:
    if geometry.groups > 1:
        return Forms(_depthwise, _depthwise_dx, _depthwise_dw)
    if _is_pointwise(kernel, geometry):
        return Forms(_pointwise, _pointwise_dx, _pointwise_dw)
    if not _overhangs(geometry, x, kernel) and winograd.suits(
        kernel, geometry.strides, geometry.padding, geometry.groups
    ):
        return Forms(_minimal, _minimal_dx, _minimal_dw)
    return Forms(_wide, _wide_dx) if _is_wide(x, kernel, geometry) else Forms()


# Minimal: 3x3 with fewer products. Sums of an input are four times its size, those of a kernel nearly twice:
# they are made when they are wanted, the backward pass's anew.


def _minimal(geometry: Geometry, x: Array, kernel: Array) -> Array:
    return winograd.convolve(geometry.padding, x, kernel + zero_of(x))


def _minimal_dx(shape: tuple[int, ...], geometry: Geometry, g: Array, kernel: Array) -> Array:
    return winograd.input_gradient(geometry.padding, g, kernel + zero_of(g))


def _minimal_dw(shape: tuple[int, ...], geometry: Geometry, x: Array, g: Array) -> Array:
    return winograd.kernel_gradient(geometry.padding, x + zero_of(g), g)


# Wide: one product with all taps of the kernel; backward, each tap's share added where it came from.


def _wide(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """On a map smaller than the kernel XLA's convolution takes 60 times as long as patches' product."""
    if not _overhangs(geometry, x, kernel):
        return _plain(geometry, x, kernel)
    window: tuple[int, int] = kernel.shape[:2]  # type: ignore[assignment]
    padded = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))
    rows, columns = (
        (padded.shape[1 + axis] - window[axis]) // geometry.strides[axis] + 1 for axis in range(2)
    )
    patches = jnp.concatenate(_taps(padded, window, (rows, columns), geometry.strides), axis=-1)  # type: ignore[arg-type]
    return jnp.dot(patches, kernel.reshape(-1, kernel.shape[-1]))


def _overhangs(geometry: Geometry, x: Array, kernel: Array) -> bool:
    """Whether the kernel is larger than the map, though not than the padded one."""
    sizes = tuple(zip(x.shape[1:-1], kernel.shape[:-2], geometry.padding, strict=True))
    return any(length < window for length, window, _ in sizes) and all(
        window <= length + sum(pad) for length, window, pad in sizes
    )


def _wide_dx(shape: tuple[int, ...], geometry: Geometry, g: Array, kernel: Array) -> Array:
    """Positions of one phase (their row and column modulo the stride) gather the same taps."""
    (high, broad, channels, features), (n, rows, columns, _) = kernel.shape, g.shape
    shares = jnp.dot(g, kernel.reshape(-1, features).T).reshape(n, rows, columns, high * broad, channels)
    (down, right), zero = geometry.strides, jnp.zeros((), g.dtype)
    padded = [length + low + up for length, (low, up) in zip(shape[1:3], geometry.padding, strict=True)]
    tall, wide = -(-padded[0] // down), -(-padded[1] // right)

    def phase(first_row: int, first_column: int) -> Array:
        total = jnp.zeros((n, tall, wide, channels), g.dtype)
        for row in range(first_row, high, down):
            for column in range(first_column, broad, right):
                top, left = row // down, column // right
                edges = ((0, 0, 0), (top, tall - rows - top, 0), (left, wide - columns - left, 0), (0, 0, 0))
                total = total + lax.pad(shares[:, :, :, row * broad + column], zero, edges)
        return total

    phases = [jnp.stack([phase(row, column) for column in range(right)], 3) for row in range(down)]
    whole = jnp.stack(phases, 2).reshape(n, tall * down, wide * right, channels)
    (top, _), (left, _) = geometry.padding
    return whole[:, top : top + shape[1], left : left + shape[2]]


# Pointwise: a matrix product over all positions.


def _pointwise(geometry: Geometry, x: Array, kernel: Array) -> Array:
    rows, columns = geometry.strides
    return jnp.dot(x[:, ::rows, ::columns], kernel[0, 0])


def _pointwise_dx(shape: tuple[int, ...], geometry: Geometry, g: Array, kernel: Array) -> Array:
    dx = jnp.dot(g, kernel[0, 0].T)
    if geometry.strides == (1, 1):
        return dx
    (rows, columns), (_, height, width, _) = geometry.strides, shape
    spread = [
        (0, length - (count - 1) * step - 1, step - 1)
        for length, count, step in ((height, dx.shape[1], rows), (width, dx.shape[2], columns))
    ]
    return lax.pad(dx, jnp.zeros((), dx.dtype), ((0, 0, 0), *spread, (0, 0, 0)))


def _pointwise_dw(shape: tuple[int, ...], geometry: Geometry, x: Array, g: Array) -> Array:
    rows, columns = geometry.strides
    seen = x[:, ::rows, ::columns].reshape(-1, x.shape[-1])
    return lax.dot_general(seen, g.reshape(-1, g.shape[-1]), (((0,), (0,)), ((), ()))).reshape(shape)


# Depthwise: one shifted multiply-add a tap, which XLA fuses into one loop over channels.


def _taps(padded: Array, window: tuple[int, int], out: tuple[int, int], strides: tuple[int, int]) -> list:
    """The input seen by each tap of a window: the last three axes of `padded` are (H, W, C)."""
    lead = padded.ndim - 3
    views = []
    for row in range(window[0]):
        for column in range(window[1]):
            starts = [0] * lead + [row, column, 0]
            limits = [
                *padded.shape[:lead],
                row + (out[0] - 1) * strides[0] + 1,
                column + (out[1] - 1) * strides[1] + 1,
                padded.shape[-1],
            ]
            views.append(lax.slice(padded, starts, limits, [1] * lead + [*strides, 1]))
    return views


def _depthwise(geometry: Geometry, x: Array, kernel: Array) -> Array:
    window = kernel.shape[:2]
    padded = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))
    out = tuple((padded.shape[1 + axis] - window[axis]) // geometry.strides[axis] + 1 for axis in range(2))
    views = _taps(padded, window, out, geometry.strides)  # type: ignore[arg-type]
    weights = kernel.reshape(-1, kernel.shape[-1])
    return sum(view * weights[tap] for tap, view in enumerate(views))  # type: ignore[return-value]


def _depthwise_dx(shape: tuple[int, ...], geometry: Geometry, g: Array, kernel: Array) -> Array:
    """The transpose: spread the gradient by the stride, and correlate with the flipped window."""
    spread = []
    for axis in range(2):
        length, count, window = shape[1 + axis], g.shape[1 + axis], kernel.shape[axis]
        low, step = geometry.padding[axis][0], geometry.strides[axis]
        spread.append((window - 1 - low, length - 1 + low - (count - 1) * step, step - 1))
    padded = lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0), *spread, (0, 0, 0)))
    views = _taps(padded, kernel.shape[:2], (shape[1], shape[2]), (1, 1))  # type: ignore[arg-type]
    weights = kernel[::-1, ::-1].reshape(-1, kernel.shape[-1])
    return sum(view * weights[tap] for tap, view in enumerate(views))  # type: ignore[return-value]


def _depthwise_dw(shape: tuple[int, ...], geometry: Geometry, x: Array, g: Array) -> Array:
    """One product an image, summed over images in place: the accumulators stay in the cache.

    A reduction over all positions at once, as XLA's CPU backend writes it, strides through memory.
    """
    padded = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))
    out, channels = g.shape[1:3], g.shape[-1]
    taps = shape[0] * shape[1]

    def add(sums: tuple[Array, ...], image: tuple[Array, Array]) -> tuple[tuple[Array, ...], None]:
        views = _taps(image[0], shape[:2], out, geometry.strides)  # type: ignore[arg-type]
        return tuple(total + view * image[1] for total, view in zip(sums, views, strict=True)), None

    start = tuple(jnp.zeros((*out, channels), g.dtype) for _ in range(taps))
    sums, _ = lax.scan(add, start, (padded, g))
    return jnp.stack([total.sum((0, 1)) for total in sums]).reshape(shape)
