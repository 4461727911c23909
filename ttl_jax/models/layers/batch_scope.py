"""The batch of a BatchNorm where that batch is split over devices, or padded.

`jit` over a mesh needs nothing of this for a full batch: there a mean over the batch is one over all
devices. Under `pmap` the moments are averaged over the named axis; padding never counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
from jax import lax

from ttl_jax.typing import Array, Float


@dataclass(frozen=True)
class BatchScope:
    """The way in which the batch at hand is split and padded.

    Attributes:
        axis: the name of the mapped axis to synchronise over; None = this device's part alone.
        mask: (N,) 1 for an example, 0 for padding; None where all are examples.
        known: the moments made so far, beside their map, by its id.
    """

    axis: str | None = None
    mask: Array | None = None
    known: dict[int, tuple[Array, Any]] = field(default_factory=dict, compare=False)

    @property
    def whole(self) -> bool:
        """True where the batch is neither split nor padded."""
        return self.axis is None and self.mask is None

    def moments(
        self, x: Float[Array, "n *space c"]
    ) -> tuple[Float[Array, " c"], Float[Array, " c"], Float[Array, ""]]:
        """Mean, mean square, and n / (n - 1) of n values a channel, over the batch and space."""
        axes = tuple(range(x.ndim - 1))
        rows = jnp.ones(x.shape[0], x.dtype) if self.mask is None else self.mask.astype(x.dtype)
        weight = rows.reshape(-1, *(1,) * (x.ndim - 1))
        sums = (x * weight).sum(axes), (jnp.square(x) * weight).sum(axes), rows.sum()
        if self.axis is not None:
            sums = lax.psum(sums, self.axis)
        first, second, examples = sums
        count = jnp.maximum(examples * (x.size / x.shape[0] / x.shape[-1]), 1.0)
        return first / count, second / count, count / jnp.maximum(count - 1, 1.0)


_SCOPE: ContextVar[BatchScope | None] = ContextVar("batch_scope", default=None)


def current() -> BatchScope | None:
    """Return the scope that is being traced in, if any."""
    return _SCOPE.get()


@contextmanager
def batch_scope(axis: str | None, mask: Array | None) -> Iterator[None]:
    """Create a context, for one call of one network, in which BatchNorms take the moments of such a batch."""
    token = _SCOPE.set(BatchScope(axis, mask))
    try:
        yield
    finally:
        _SCOPE.reset(token)
