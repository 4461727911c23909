"""BSS: batch spectral shrinkage (Chen et al. 2019).

    weight * sum_{i <= k} sigma_{-i}(F)^2

F is the (N, C) matrix of what the head reads, sigma_{-i} its i-th smallest singular value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp

from ttl_jax.errors import UserError
from ttl_jax.strategies.anatomy import Anatomy
from ttl_jax.strategies.parts.feature_penalty import check_weight, moving, pooled
from ttl_jax.strategies.parts.part import BoundPart, Part, Seen
from ttl_jax.typing import Array, Float


@dataclass(frozen=True)
class SmallSingularValues(Part):
    """Pushes the k smallest singular values of a batch's features to zero."""

    weight: float
    k: int

    def bind(self, anatomy: Anatomy, trainable: Sequence[str]) -> BoundSingularValues | None:
        check_weight(self.weight)
        if not self.k >= 1:
            raise UserError(f"bss: k={self.k} must be 1 or more")
        units = moving(anatomy.units[-1:], anatomy, trainable)
        return BoundSingularValues(self, units) if units else None


@dataclass(frozen=True)
class BoundSingularValues(BoundPart):
    """The term and the unit whose output it reads."""

    part: SmallSingularValues
    units: tuple[str, ...]

    @property
    def capture(self) -> tuple[str, ...]:
        return self.units

    def loss(self, seen: Seen) -> Float[Array, ""]:
        return self.part.weight * spectral_tail(pooled(seen.features[self.units[0]]), self.part.k)


def spectral_tail(features: Float[Array, "n c"], k: int) -> Float[Array, ""]:
    """Sum of the k smallest squared singular values (of min(N, C)).

    They are the smallest eigenvalues of the smaller Gram matrix, whose gradient exists also where
    two of them are equal, unlike that of singular vectors.
    """
    rows, columns = features.shape
    gram = features @ features.T if rows <= columns else features.T @ features
    return jnp.sum(jnp.linalg.eigvalsh(gram)[:k])
