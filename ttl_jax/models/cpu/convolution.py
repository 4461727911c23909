"""The one convolution that every network calls, with the forms that are fast on a CPU.

XLA's CPU backend runs depthwise convolutions, and the weight gradients of 1x1 convolutions, 5 to 100
times slower than the same sums written as shifted multiply-adds and as matrix products, and the input
gradients of strided kernels, and of wide ones on small maps, up to 2 times slower (benchmarks/NOTES.md).
What a weight gradient takes, a transposed copy of the input, it makes in the forward pass already and
keeps until then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad

from ttl_jax.models import cpu
from ttl_jax.models.cpu import winograd
from ttl_jax.models.cpu.in_order import zero_of
from ttl_jax.models.cpu.operation import operation
from ttl_jax.typing import Array, Float

Padding = str | Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Geometry:
    """A convolution but for its arrays.

    Attributes:
        strides: stride of each spatial dimension.
        padding: explicit (low, high) pairs, one a spatial dimension.
        groups: feature groups.
        space: spatial shape of the input, as (H, W).
        window: shape of the kernel, HWIO or DHWIO.
    """

    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    groups: int
    space: tuple[int, ...]
    window: tuple[int, ...]

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.window[-2] * self.groups

    @property
    def out(self) -> tuple[int, ...]:
        """Spatial shape of the output."""
        sizes = zip(self.space, self.window[:-2], self.strides, self.padding, strict=True)
        return tuple((size + sum(pad) - window) // stride + 1 for size, window, stride, pad in sizes)

    @property
    def overhangs(self) -> bool:
        """Return whether the kernel is larger than the map, but not than the padded map."""
        sizes = tuple(zip(self.space, self.window[:-2], self.padding, strict=True))
        return any(length < window for length, window, _ in sizes) and all(
            window <= length + sum(pad) for length, window, pad in sizes
        )

    @property
    def ours(self) -> bool:
        """Return whether a CPU has forms of its own: without groups, or depthwise in two dimensions."""
        depthwise = self.groups == self.channels == self.window[-1]
        return self.groups == 1 or (len(self.space) == 2 and depthwise)

    @property
    def pointwise(self) -> bool:
        """Return whether the convolution is a matrix product over positions."""
        without_padding = all(pair == (0, 0) for pair in self.padding)
        return self.groups == 1 and self.window[:-2] == (1, 1) and without_padding


def geometry_of(x: Array, kernel: Array, strides: Sequence[int], padding: Padding, groups: int) -> Geometry:
    """Return the geometry of a convolution; arguments as for `convolution`."""
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:-1], kernel.shape[:-2], tuple(strides), padding)
    pairs = tuple((int(low), int(high)) for low, high in padding)
    return Geometry(tuple(strides), pairs, groups, x.shape[1:-1], kernel.shape)


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
    geometry = geometry_of(x, kernel, strides, padding, groups)
    if cpu.enabled(x) and geometry.ours:
        return CONVOLVE.bind(x, kernel, how=geometry)
    return plain(geometry, x, kernel)


def plain(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """XLA's own convolution."""
    return lax.conv_general_dilated(
        x, kernel, geometry.strides, geometry.padding,
        dimension_numbers=_layout(geometry), feature_group_count=geometry.groups,
    )  # fmt: skip


def _layout(geometry: Geometry) -> tuple[str, str, str]:
    return ("NHWC", "HWIO", "NHWC") if len(geometry.space) == 2 else ("NDHWC", "DHWIO", "NDHWC")


def _plain_dx(geometry: Geometry, g: Array, kernel: Array) -> Array:
    x = jax.ShapeDtypeStruct((g.shape[0], *geometry.space, geometry.channels), g.dtype)
    return jax.linear_transpose(lambda x: plain(geometry, x, kernel), x)(g)[0]


def plain_kernel_gradient(geometry: Geometry, x: Array, g: Array) -> Array:
    """XLA's own gradient of the kernel."""
    kernel = jax.ShapeDtypeStruct(geometry.window, x.dtype)
    return jax.linear_transpose(lambda kernel: plain(geometry, x, kernel), kernel)(g)[0]


def forward(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """The convolution as a CPU computes it."""
    return _forms(geometry, x).forward(geometry, x, kernel)


def _dx(geometry: Geometry, g: Array, kernel: Array) -> Array:
    return _forms(geometry, g).dx(geometry, g, kernel)


def kernel_gradient(geometry: Geometry, x: Array, g: Array) -> Array:
    """The gradient of the kernel as a CPU computes it."""
    return _forms(geometry, x).dw(geometry, x, g)


# A convolution is linear in its input and in its kernel; so are the gradients of either, and the derivatives
# of each of the three are the two others.
CONVOLVE = operation("convolution", plain, forward, rows=(0,))
INPUT_GRADIENT = operation("convolution_input_gradient", _plain_dx, _dx, rows=(0,))
KERNEL_GRADIENT = operation("convolution_kernel_gradient", plain_kernel_gradient, kernel_gradient)
ad.defbilinear(
    CONVOLVE,
    lambda g, x, kernel, how: INPUT_GRADIENT.bind(g, kernel, how=how),
    lambda g, x, kernel, how: KERNEL_GRADIENT.bind(x, g, how=how),
)
ad.defbilinear(
    INPUT_GRADIENT,
    lambda x, g, kernel, how: CONVOLVE.bind(x, kernel, how=how),
    lambda x, g, kernel, how: KERNEL_GRADIENT.bind(x, g, how=how),
)
ad.defbilinear(
    KERNEL_GRADIENT,
    lambda kernel, x, g, how: INPUT_GRADIENT.bind(g, kernel, how=how),
    lambda kernel, x, g, how: CONVOLVE.bind(x, kernel, how=how),
)


# Both gradients are convolutions of other arrays: of the gradient with the kernel turned round, and of the
# input with the gradient, examples for channels. XLA writes them as one with its dimensions in another order,
# and makes that order good before it compiles a program, but not within a loop: there, as in a batch taken in
# parts, they took 10 and 90 times as long.


def _turned_dx(geometry: Geometry, g: Array, kernel: Array) -> Array:
    space = tuple(range(len(geometry.space)))
    pads = []
    sizes = zip(
        geometry.space, geometry.window, geometry.out, geometry.strides, geometry.padding, strict=False
    )
    for length, window, out, stride, (low, _) in sizes:
        before, spread = window - 1 - low, (out - 1) * stride + 1
        pads.append((before, length + window - 1 - spread - before))
    return lax.conv_general_dilated(
        g, jnp.flip(kernel, space).swapaxes(-1, -2), [1] * len(space), pads, lhs_dilation=geometry.strides,
        dimension_numbers=_layout(geometry),
    )  # fmt: skip


def _turned_dw(geometry: Geometry, x: Array, g: Array) -> Array:
    last, pads = x.ndim - 1, []
    sizes = zip(
        geometry.space, geometry.window, geometry.out, geometry.strides, geometry.padding, strict=False
    )
    for length, window, out, stride, (low, _) in sizes:
        pads.append((low, window + (out - 1) * stride - length - low))
    by_channel = lax.conv_general_dilated(
        jnp.swapaxes(x + zero_of(g), 0, last), jnp.moveaxis(g, 0, -2), [1] * len(pads), pads,
        rhs_dilation=geometry.strides, dimension_numbers=_layout(geometry),
    )  # fmt: skip
    return jnp.moveaxis(by_channel, 0, -2)


class Forms(NamedTuple):
    """The three functions of a convolution on a CPU: output, input gradient, kernel gradient."""

    forward: Callable[[Geometry, Array, Array], Array] = plain
    dx: Callable[[Geometry, Array, Array], Array] = _turned_dx
    dw: Callable[[Geometry, Array, Array], Array] = _turned_dw


def _forms(geometry: Geometry, rows: Array) -> Forms:
    """The forms for batches as long as `rows` and of its type."""
    if not geometry.ours:
        return Forms(plain, _plain_dx, plain_kernel_gradient)
    if len(geometry.space) != 2:
        return Forms()
    if geometry.groups > 1:
        return Forms(_depthwise, _depthwise_dx, _depthwise_dw)
    if geometry.pointwise:
        return Forms(_pointwise, _pointwise_dx, _pointwise_dw)
    exact = winograd.suits(geometry.window, rows.dtype, geometry.strides, geometry.padding)
    if exact and not geometry.overhangs:
        return Forms(_minimal, _minimal_dx, _minimal_dw)
    return Forms(_wide, _wide_dx) if _is_wide(geometry, rows.shape[0]) else Forms()


def _is_wide(geometry: Geometry, examples: int) -> bool:
    """Return whether the input's gradient, without groups, is faster as one product with all taps.

    It is where the kernel outweighs the map, so that XLA's flipped copy of it would cost the most; and where
    strides would have XLA convolve a map of zeros but for one position in four. Not with few channels: the
    shares of a stem's taps would be many times its input.
    """
    if geometry.overhangs or (max(geometry.strides) > 1 and geometry.channels >= 16):
        return True
    return examples * math.prod(geometry.out) <= 4 * geometry.window[-1]


# Minimal: 3x3 with fewer products. Sums of an input are four times its size, those of a kernel nearly twice:
# they are made when they are wanted, the backward pass's anew.


def _minimal(geometry: Geometry, x: Array, kernel: Array) -> Array:
    return winograd.convolve(geometry.padding, x, kernel + zero_of(x))


def _minimal_dx(geometry: Geometry, g: Array, kernel: Array) -> Array:
    return winograd.input_gradient(geometry.padding, g, kernel + zero_of(g))


def _minimal_dw(geometry: Geometry, x: Array, g: Array) -> Array:
    return winograd.kernel_gradient(geometry.padding, x + zero_of(g), g)


# Wide: one product with all taps of the kernel; backward, each tap's share added where it came from.


def _wide(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """On a map smaller than the kernel XLA's convolution takes 60 times as long as patches' product."""
    if not geometry.overhangs:
        return plain(geometry, x, kernel)
    padded = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))
    patches = jnp.concatenate(_taps(padded, geometry.window, geometry.out, geometry.strides), axis=-1)
    return jnp.dot(patches, kernel.reshape(-1, kernel.shape[-1]))


def _wide_dx(geometry: Geometry, g: Array, kernel: Array) -> Array:
    """Positions of one phase (their row and column modulo the stride) gather the same taps."""
    (high, broad, channels, features), (n, rows, columns, _) = kernel.shape, g.shape
    shares = jnp.dot(g, kernel.reshape(-1, features).T).reshape(n, rows, columns, high * broad, channels)
    (down, right), zero = geometry.strides, jnp.zeros((), g.dtype)
    padded = [length + low + up for length, (low, up) in zip(geometry.space, geometry.padding, strict=True)]
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
    return whole[:, top : top + geometry.space[0], left : left + geometry.space[1]]


# Pointwise: a matrix product over all positions.


def _pointwise(geometry: Geometry, x: Array, kernel: Array) -> Array:
    rows, columns = geometry.strides
    return jnp.dot(x[:, ::rows, ::columns], kernel[0, 0])


def _pointwise_dx(geometry: Geometry, g: Array, kernel: Array) -> Array:
    dx = jnp.dot(g, kernel[0, 0].T)
    if geometry.strides == (1, 1):
        return dx
    (rows, columns), (height, width) = geometry.strides, geometry.space
    spread = [
        (0, length - (count - 1) * step - 1, step - 1)
        for length, count, step in ((height, dx.shape[1], rows), (width, dx.shape[2], columns))
    ]
    return lax.pad(dx, jnp.zeros((), dx.dtype), ((0, 0, 0), *spread, (0, 0, 0)))


def _pointwise_dw(geometry: Geometry, x: Array, g: Array) -> Array:
    rows, columns = geometry.strides
    seen = x[:, ::rows, ::columns].reshape(-1, x.shape[-1])
    product = lax.dot_general(seen, g.reshape(-1, g.shape[-1]), (((0,), (0,)), ((), ())))
    return product.reshape(geometry.window)


# Depthwise: one shifted multiply-add a tap, which XLA fuses into one loop over channels.


def _taps(padded: Array, window: Sequence[int], out: Sequence[int], strides: Sequence[int]) -> list[Array]:
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
    padded = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))
    views = _taps(padded, geometry.window, geometry.out, geometry.strides)
    weights = kernel.reshape(-1, kernel.shape[-1])
    return sum(view * weights[tap] for tap, view in enumerate(views))  # type: ignore[return-value]


def _depthwise_dx(geometry: Geometry, g: Array, kernel: Array) -> Array:
    """The transpose: spread the gradient by the stride, and correlate with the flipped window."""
    spread = []
    for axis in range(2):
        length, count, window = geometry.space[axis], g.shape[1 + axis], kernel.shape[axis]
        low, step = geometry.padding[axis][0], geometry.strides[axis]
        spread.append((window - 1 - low, length - 1 + low - (count - 1) * step, step - 1))
    padded = lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0), *spread, (0, 0, 0)))
    views = _taps(padded, geometry.window, geometry.space, (1, 1))
    weights = kernel[::-1, ::-1].reshape(-1, kernel.shape[-1])
    return sum(view * weights[tap] for tap, view in enumerate(views))  # type: ignore[return-value]


def _depthwise_dw(geometry: Geometry, x: Array, g: Array) -> Array:
    """One product an image, summed over images in place: the accumulators stay in the cache.

    A reduction over all positions at once, as XLA's CPU backend writes it, strides through memory.
    """
    padded = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))
    out, channels = g.shape[1:3], g.shape[-1]
    taps = geometry.window[0] * geometry.window[1]

    def add(sums: tuple[Array, ...], image: tuple[Array, Array]) -> tuple[tuple[Array, ...], None]:
        views = _taps(image[0], geometry.window, out, geometry.strides)
        return tuple(total + view * image[1] for total, view in zip(sums, views, strict=True)), None

    start = tuple(jnp.zeros((*out, channels), g.dtype) for _ in range(taps))
    sums, _ = lax.scan(add, start, (padded, g))
    return jnp.stack([total.sum((0, 1)) for total in sums]).reshape(geometry.window)
