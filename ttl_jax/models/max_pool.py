"""Max pooling as torch's, with a gradient that is fast on a CPU.

XLA's CPU backend runs the gradient of a window maximum (select-and-scatter) element by element, 20 to
45 times slower than comparing shifted views (benchmarks/NOTES.md). GPU and TPU keep XLA's own.
"""

from __future__ import annotations

from functools import partial, reduce

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ttl_jax.models.late import zero_of
from ttl_jax.typing import Array, Float


def max_pool(
    x: Float[Array, "n *space c"], size: int, stride: int, padding: int = 0
) -> Float[Array, "n *out c"]:
    """Max pooling as torch's: symmetric padding that never wins, no partial window at the end.

    The gradient of a window goes to its first maximum in row-major order (torch, and XLA).
    """
    return _pool(size, stride, padding, x) if x.ndim == 4 else _plain(size, stride, padding, x)


def _plain(size: int, stride: int, padding: int, x: Array) -> Array:
    spatial = x.ndim - 2
    return nn.max_pool(x, (size,) * spatial, (stride,) * spatial, [(padding, padding)] * spatial)


def _taps(size: int, stride: int, padding: int, x: Array) -> list[Array]:
    """What each place of the window sees, in row-major order."""
    edges = (padding, padding)
    padded = jnp.pad(x, ((0, 0), edges, edges, (0, 0)), constant_values=-jnp.inf)
    rows, columns = ((length - size) // stride * stride + 1 for length in padded.shape[1:3])
    return [
        padded[:, row : row + rows : stride, column : column + columns : stride]
        for row in range(size)
        for column in range(size)
    ]


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _pool(size: int, stride: int, padding: int, x: Array) -> Array:
    return lax.platform_dependent(
        x,
        cpu=lambda x: reduce(jnp.maximum, _taps(size, stride, padding, x)),
        default=partial(_plain, size, stride, padding),
    )


def _forward(size: int, stride: int, padding: int, x: Array) -> tuple[Array, Array]:
    return _pool(size, stride, padding, x), x


def _backward(size: int, stride: int, padding: int, x: Array, g: Array) -> tuple[Array]:
    def plain(x: Array, g: Array) -> Array:
        return jax.vjp(partial(_plain, size, stride, padding), x)[1](g)[0]

    return (lax.platform_dependent(x, g, cpu=partial(_gather, size, stride, padding), default=plain),)


_pool.defvjp(_forward, _backward)


def _first_maximum(taps: list[Array]) -> Array:
    """The place in the window of its first maximum."""
    best, place = taps[0], jnp.zeros(taps[0].shape, jnp.int8)
    for number, tap in enumerate(taps[1:], start=1):
        place = jnp.where(tap > best, jnp.int8(number), place)
        best = jnp.maximum(best, tap)
    return place


def _gather(size: int, stride: int, padding: int, x: Array, g: Array) -> Array:
    """Each position sums the gradients of the windows that chose it.

    Positions of one phase (their row and column modulo the stride) lie at the same places of their
    windows, so that a phase is a sum of masked shifted views of g.
    """
    place = _first_maximum(_taps(size, stride, padding, x + zero_of(g)))
    n, height, width, channels = x.shape
    reach = -(-size // stride)  # windows along an axis that see one position
    rows, columns = (-(-(length + 2 * padding) // stride) for length in (height, width))
    pads = [
        (0, 0),
        *((reach - 1, count - seen) for count, seen in zip((rows, columns), g.shape[1:3], strict=True)),
    ]
    g = jnp.pad(g, (*pads, (0, 0)))
    place = jnp.pad(place, (*pads, (0, 0)), constant_values=-1)

    def phase(first_row: int, first_column: int) -> Array:
        total = jnp.zeros((n, rows, columns, channels), g.dtype)
        for row in range(first_row, size, stride):
            for column in range(first_column, size, stride):
                low = (reach - 1 - row // stride, reach - 1 - column // stride)
                view = (slice(None), slice(low[0], low[0] + rows), slice(low[1], low[1] + columns))
                total = total + jnp.where(place[view] == row * size + column, g[view], 0)
        return total

    phases = [jnp.stack([phase(row, column) for column in range(stride)], 3) for row in range(stride)]
    whole = jnp.stack(phases, 2).reshape(n, rows * stride, columns * stride, channels)
    return whole[:, padding : padding + height, padding : padding + width]
