"""A batch's mean and variance in each channel; those of a map that was joined of others, from its parts.

Every layer of a dense block normalises all channels that lie below it. Made anew for each, DenseNet-121's
moments go over seven times as many values as there are.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import ReferenceType, ref

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax.models import cpu
from ttl_jax.models.layers.batch_scope import current
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


# By the id of a joined map, while that lives: its parts.
_PARTS: dict[int, tuple[ReferenceType[Array], tuple[Array, ...]]] = {}


def joined(*parts: Float[Array, "n *space _"]) -> Float[Array, "n *space c"]:
    """Concatenate the parts' channels; `moments` then asks each part for its own."""
    whole = jnp.concatenate(parts, axis=-1)
    if _noted(whole):
        key = id(whole)
        _PARTS[key] = ref(whole, lambda _: _PARTS.pop(key, None)), parts
    return whole


def _noted(x: Array) -> bool:
    """Nothing is noted of arrays, which would be held in memory for it."""
    return cpu.wanted() and isinstance(x, jax.core.Tracer)


def moments(x: Float[Array, "n *space c"], anchor: Float[Array, " c"]) -> Moments:
    """Compute the moments of x over the batch and space; within one `batch_scope` once for each map.

    Args:
        x: a map.
        anchor: near its means (a running mean is), so that a difference of squares about it does not
            cancel; a part's moments are made about that of the first who asks.
    """
    scope = current()
    if scope is None or not _noted(x):
        return _made(x, anchor)
    if id(x) not in scope.known:
        reference, parts = _PARTS.get(id(x), (None, ()))
        if reference is not None and reference() is x:
            anchors = jnp.split(anchor, np.cumsum([part.shape[-1] for part in parts])[:-1])
            each = [moments(part, near) for part, near in zip(parts, anchors, strict=True)]
            means, variances = [one.mean for one in each], [one.var for one in each]
            made = Moments(jnp.concatenate(means), jnp.concatenate(variances), each[0].bessel)
        else:
            made = _made(x, anchor)
        scope.known[id(x)] = x, made  # the map too, that its id stays its own
    return scope.known[id(x)][1]


def _made(x: Array, anchor: Array) -> Moments:
    axes, count = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    scope = current()
    centred = x.astype(jnp.float32) - anchor  # one pass over x for both moments
    if scope is None or scope.whole:
        sums = centred.sum(axes), jnp.square(centred).sum(axes)
        first, second = (total / count for total in sums)
        bessel: Array | float = count / max(count - 1, 1)
    else:
        first, second, bessel = scope.moments(centred)
    return Moments(first + anchor, jnp.maximum(second - jnp.square(first), 0.0), bessel)
