"""A batch's mean and variance in each channel; those of a map that was joined of others, from its parts.

Every layer of a dense block normalises all channels that lie below it. Made anew for each, DenseNet-121's
moments go over seven times as many values as there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax.models.batch_scope import current
from ttl_jax.models.recompute import gradients_once
from ttl_jax.typing import Array, Float


class Moments(NamedTuple):
    """Of n values a channel.

    Attributes:
        mean: (C,) float32.
        var: (C,) float32, the biased one.
        bessel: n / (n - 1), which makes it the unbiased one.
    """

    mean: Float[Array, " c"]
    var: Float[Array, " c"]
    bessel: Array | float


@dataclass(frozen=True)
class _Known:
    """By the id of a map: its parts, its moments. The map stays beside them, that its id stays its own."""

    parts: dict[int, tuple[Array, tuple[Array, ...]]] = field(default_factory=dict)
    moments: dict[int, tuple[Array, Moments]] = field(default_factory=dict)


_KNOWN: ContextVar[_Known | None] = ContextVar("moments", default=None)


@contextmanager
def moments_once() -> Iterator[None]:
    """Inside this context, one call of one network, a map's moments are made once."""
    token = _KNOWN.set(_Known())
    try:
        yield
    finally:
        _KNOWN.reset(token)


def _known(x: Array) -> _Known | None:
    """What is known of maps like this one; nothing of arrays, which would be held in memory for it."""
    return _KNOWN.get() if isinstance(x, jax.core.Tracer) else None


def joined(*parts: Float[Array, "n *space _"]) -> Float[Array, "n *space c"]:
    """The parts' channels, one after the other; `moments` then asks each part for its own."""
    whole = jnp.concatenate(parts, axis=-1)
    if (known := _known(whole)) is not None:
        known.parts[id(whole)] = whole, parts
    return whole


def moments(x: Float[Array, "n *space c"], anchor: Float[Array, " c"]) -> Moments:
    """The moments of x over the batch and space.

    Args:
        x: a map.
        anchor: near its means (a running mean is), so that a difference of squares about it does not
            cancel; a part's moments are made about that of the first who asks.
    """
    known = _known(x)
    if known is None:
        return _made(x, anchor)
    if id(x) not in known.moments:
        _, parts = known.parts.get(id(x), (x, ()))
        if parts:
            anchors = jnp.split(anchor, np.cumsum([part.shape[-1] for part in parts])[:-1])
            each = [moments(part, near) for part, near in zip(parts, anchors, strict=True)]
            means, variances = [one.mean for one in each], [one.var for one in each]
            found = Moments(jnp.concatenate(means), jnp.concatenate(variances), each[0].bessel)
        else:
            found = _made(x, anchor)
        known.moments[id(x)] = x, found
    return known.moments[id(x)][1]


def _made(x: Array, anchor: Array) -> Moments:
    axes, count = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    scope = current()
    centred = x.astype(jnp.float32) - anchor  # one pass over x for both moments
    if scope is None:
        sums = gradients_once((centred.sum(axes), jnp.square(centred).sum(axes)))
        first, second = (total / count for total in sums)
        bessel: Array | float = count / max(count - 1, 1)
    else:  # split over devices, or padded
        first, second, bessel = scope.moments(centred)
    return Moments(first + anchor, jnp.maximum(second - jnp.square(first), 0.0), bessel)
