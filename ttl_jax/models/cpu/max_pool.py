"""Max pooling as torch's, with a gradient that is fast on a CPU.

XLA's CPU backend runs the gradient of a window maximum (select-and-scatter) element by element, 20 to
45 times slower than comparing shifted views (benchmarks/NOTES.md). GPU and TPU keep XLA's own.
"""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.interpreters import ad

from ttl_jax.models import cpu
from ttl_jax.models.cpu.in_order import zero_of
from ttl_jax.models.cpu.operation import linear_in_last, operation
from ttl_jax.typing import Array, Float


class Window(NamedTuple):
    """Edge, stride and padding of a pool, the same in every dimension."""

    size: int
    stride: int
    padding: int


def max_pool(
    x: Float[Array, "n *space c"], size: int, stride: int, padding: int = 0
) -> Float[Array, "n *out c"]:
    """Max pooling as torch's: symmetric padding that never wins, no partial window at the end.

    The gradient of a window goes to its first maximum in row-major order (torch, and XLA).
    """
    window = Window(size, stride, padding)
    ours = cpu.enabled(x) and x.ndim == 4
    return _POOL.bind(x, how=window) if ours else _plain(window, x)


def _plain(window: Window, x: Array) -> Array:
    size, stride, padding = window
    spatial = x.ndim - 2
    return nn.max_pool(x, (size,) * spatial, (stride,) * spatial, [(padding, padding)] * spatial)


def _plain_pick(window: Window, x: Array, tangent: Array) -> Array:
    return jax.jvp(lambda x: _plain(window, x), (x,), (tangent,))[1]


def _plain_spread(window: Window, x: Array, g: Array) -> Array:
    return jax.vjp(lambda x: _plain(window, x), x)[1](g)[0]


def _taps(window: Window, x: Array, edge: float = -jnp.inf) -> list[Array]:
    """The input seen by each place of the window, in row-major order."""
    size, stride, padding = window
    edges = (padding, padding)
    padded = jnp.pad(x, ((0, 0), edges, edges, (0, 0)), constant_values=edge)
    rows, columns = ((length - size) // stride * stride + 1 for length in padded.shape[1:3])
    return [
        padded[:, row : row + rows : stride, column : column + columns : stride]
        for row in range(size)
        for column in range(size)
    ]


def _pool(window: Window, x: Array) -> Array:
    return reduce(jnp.maximum, _taps(window, x))


def _first_maximum(taps: list[Array]) -> Array:
    """The place in the window of its first maximum."""
    best, place = taps[0], jnp.zeros(taps[0].shape, jnp.int8)
    for number, tap in enumerate(taps[1:], start=1):
        place = jnp.where(tap > best, jnp.int8(number), place)
        best = jnp.maximum(best, tap)
    return place


def _pick(window: Window, x: Array, tangent: Array) -> Array:
    """The tangent at the place of each window's maximum."""
    place = _first_maximum(_taps(window, x))
    taps = enumerate(_taps(window, tangent, 0.0))
    return reduce(jnp.add, (jnp.where(place == number, tap, 0) for number, tap in taps))


def _spread(window: Window, x: Array, g: Array) -> Array:
    """Each position sums the gradients of the windows that chose it.

    Positions of one phase (their row and column modulo the stride) lie at the same places of their
    windows, so that a phase is a sum of masked shifted views of g.
    """
    size, stride, padding = window
    place = _first_maximum(_taps(window, x + zero_of(g)))
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


_POOL = operation("max_pool", _plain, _pool, rows=(0,))
_PICK = operation("max_pool_tangent", _plain_pick, _pick, rows=(0, 1))
_SPREAD = operation("max_pool_gradient", _plain_spread, _spread, rows=(0, 1))
ad.defjvp(_POOL, lambda tangent, x, how: _PICK.bind(x, tangent, how=how))
linear_in_last(_PICK, lambda g, x, how: _SPREAD.bind(x, g, how=how))
linear_in_last(_SPREAD, lambda g, x, how: _PICK.bind(x, g, how=how))
