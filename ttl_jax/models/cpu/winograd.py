"""3x3 convolutions with 16 products where there are 36: Winograd's minimal filtering F(2x2, 3x3).

A tile of 2x2 outputs sees 4x4 inputs. Sums of these, times sums of the kernel's taps, one matrix product for
each of the 16 places, give all that the outputs are sums of (Lavin and Gray 2016, section 4.1; the
gradients are the same with the matrices' transposes). In float32 it differs from the plain sums by about
1e-6 of the largest value; with fewer bits it is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from ttl_jax.models.cpu.in_order import zero_of
from ttl_jax.typing import Array, Float

Pads = Sequence[tuple[int, int]]
Grid = list[list[Array]]  # a small matrix of arrays: [row][column]

LEAST = 128  # channels on both sides; with fewer the sums cost what the products save (benchmarks/NOTES.md)
TOGETHER = 1 << 23  # values: so many sums are made at a time, as caches still help with


def suits(window: Sequence[int], dtype: Any, strides: Sequence[int], padding: Pads) -> bool:
    """Return whether these functions are exact for such a convolution without groups, and worth it.

    Args:
        window: shape of the kernel, HWIO.
        dtype: type of the input.
        strides, padding: the convolution's strides and padding.
    """
    exact = tuple(window[:2]) == (3, 3) and tuple(strides) == (1, 1)
    near = all(0 <= edge <= 2 for pair in padding for edge in pair)
    return exact and near and dtype == jnp.float32 and min(window[2:]) >= LEAST


def convolve(
    padding: Pads, x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 c features"]
) -> Float[Array, "n out_h out_w features"]:
    """The convolution with strides of 1."""
    return _convolve(padding, x, _spread_kernel(kernel))


def input_gradient(
    padding: Pads, g: Float[Array, "n out_h out_w features"], kernel: Float[Array, "3 3 c features"]
) -> Float[Array, "n h w c"]:
    """That of `convolve` for its input: the gradient convolved with the kernel turned round."""
    turned = [[place.T for place in row] for row in _spread_kernel(kernel[::-1, ::-1])]
    return _convolve([(2 - low, 2 - high) for low, high in padding], g, turned)


def kernel_gradient(
    padding: Pads, x: Float[Array, "n h w c"], g: Float[Array, "n out_h out_w features"]
) -> Float[Array, "3 3 c features"]:
    """That of `convolve` for its kernel."""

    def share(x: Array, g: Array) -> Array:
        _, height, width, features = g.shape
        even = jnp.pad(g, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
        outputs = [[even[:, row::2, column::2] for column in (0, 1)] for row in (0, 1)]
        seen = _twice(_of_inputs, _tiles(padding, x, (height, width)))
        spread = _twice(_of_outputs_back, outputs)
        return jnp.stack([
            lax.dot_general(
                one.reshape(-1, one.shape[-1]), other.reshape(-1, features), (((0,), (0,)), ((), ()))
            )
            for row, others in zip(seen, spread, strict=True) for one, other in zip(row, others, strict=True)
        ])  # fmt: skip

    start = jnp.zeros((16, x.shape[-1], g.shape[-1]), g.dtype)
    places = _in_parts(lambda sums, _, x, g: sums + share(x, g), start, x, g)
    grid = [[places[4 * row + column] for column in range(4)] for row in range(4)]
    return jnp.stack([jnp.stack(row) for row in _twice(_of_kernel_back, grid)])


def _convolve(padding: Pads, x: Array, kernel: Grid) -> Array:
    """With a kernel that `_spread_kernel` has spread."""
    height, width = (length + sum(pad) - 2 for length, pad in zip(x.shape[1:3], padding, strict=True))

    def part(x: Array) -> Array:
        seen = _twice(_of_inputs, _tiles(padding, x, (height, width)))
        products = [
            [jnp.dot(one, other) for one, other in zip(*rows, strict=True)]
            for rows in zip(seen, kernel, strict=True)
        ]
        rows = [jnp.stack(row, 3) for row in _twice(_of_outputs, products)]
        whole = jnp.stack(rows, 2)
        n, tall, _, wide, _, features = whole.shape
        return whole.reshape(n, 2 * tall, 2 * wide, features)[:, :height, :width]

    start = jnp.zeros((x.shape[0], height, width, kernel[0][0].shape[-1]), x.dtype)
    return _in_parts(lambda out, first, x: lax.dynamic_update_slice_in_dim(out, part(x), first, 0), start, x)


def _in_parts(add: Callable[..., Array], start: Array, x: Array, *others: Array) -> Array:
    """`start`, to which each part of a batch has added its share: add(so far, its first image, *its part).

    Loops begin with an array that XLA would make, and hold, from the start of a step on: it waits for x.
    """
    count = len(x) // _parts(x)

    def one(number: Array, so_far: Array) -> Array:
        first = number * count
        return add(so_far, first, *(lax.dynamic_slice_in_dim(array, first, count) for array in (x, *others)))

    if count == len(x):
        return add(start, 0, x, *others)
    return lax.fori_loop(0, len(x) // count, one, start + zero_of(x))


def _parts(x: Array) -> int:
    """Into how many parts a batch goes: its sums are four times as many values as it has."""
    wanted = min(-(-4 * x.size // TOGETHER), len(x))
    return next(number for number in range(wanted, len(x) + 1) if len(x) % number == 0)


def _tiles(padding: Pads, x: Array, out: tuple[int, int]) -> Grid:
    """Return what each of the 4x4 places of a tile reads: (N, tiles down, tiles across, C)."""
    n, height, width, channels = x.shape
    tall, wide = (-(-length // 2) for length in out)
    (top, _), (left, _) = padding
    edges = (top, 2 * tall + 2 - height - top), (left, 2 * wide + 2 - width - left)
    padded = jnp.pad(x, ((0, 0), *edges, (0, 0)))

    def place(row: int, column: int) -> Array:
        ends = (n, row + 2 * tall - 1, column + 2 * wide - 1, channels)
        return lax.slice(padded, (0, row, column, 0), ends, (1, 2, 2, 1))

    return [[place(row, column) for column in range(4)] for row in range(4)]


def _spread_kernel(kernel: Array) -> Grid:
    return _twice(_of_kernel, [[kernel[row, column] for column in range(3)] for row in range(3)])


def _twice(sums: Callable[..., tuple[Array, ...]], grid: Grid) -> Grid:
    """A matrix M as A M A', where `sums` is A."""
    across = [sums(*row) for row in grid]
    return [list(row) for row in zip(*(sums(*column) for column in zip(*across, strict=True)), strict=True)]


# The three matrices of F(2, 3) and the transposes that gradients take, written out as sums.


def _of_inputs(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, ...]:
    return a - c, b + c, c - b, b - d


def _of_kernel(a: Array, b: Array, c: Array) -> tuple[Array, ...]:
    return a, (a + b + c) / 2, (a - b + c) / 2, c


def _of_kernel_back(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, ...]:
    return a + (b + c) / 2, (b - c) / 2, (b + c) / 2 + d


def _of_outputs(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, ...]:
    return a + b + c, b - c - d


def _of_outputs_back(a: Array, b: Array) -> tuple[Array, ...]:
    return a, a + b, a - b, -b
