"""Similarity of two sets of features (SVCCA, PWCCA, linear CKA) and its chance level.

NumPy in double precision: features come from a few hundred images, and a decomposition that is a
little wrong looks like a finding.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ttl_jax.errors import UserError
from ttl_jax.typing import Float

Features = Float[np.ndarray, "examples *space features"]
Matrix = Float[np.ndarray, "examples features"]
Measure = Callable[..., float]


def svcca(x: Features, y: Features, *, variance: float = 0.99, threshold: float = 0.98) -> float:
    """Singular vector canonical correlation (Raghu et al. 2017, arXiv:1706.05806).

    Both are centred and reduced to the directions that hold `variance` of their variance; the
    similarity is the mean canonical correlation, without the trailing ones that add less than
    1 - threshold to the sum (as in Raghu et al.'s code, google/svcca, cca_core.py).

    Args:
        x, y: Features (examples, features), or maps (examples, H, W, channels). If both maps have one size,
            their positions count as examples; if not, each map is averaged over space.
        variance: Share of the variance to keep, in (0, 1].
        threshold: Share of the correlations' sum to average over, in (0, 1].

    Returns:
        From 0 to 1; the same for any rotation and scaling of either.

    Raises:
        UserError: unequal numbers of examples, features that do not vary, values that are not
            finite, or not more examples than directions (every correlation would be 1).
    """
    left, right = _matrices(x, y)
    correlations = canonical_correlations(_directions(left, variance, "x"), _directions(right, variance, "y"))
    return float(correlations[: _kept(correlations, threshold)].mean())


def pwcca(x: Features, y: Features) -> float:
    """Projection-weighted canonical correlation (Morcos et al. 2018, arXiv:1806.05759).

    Each correlation is weighted by how much of the features its direction accounts for: the sum of
    |<direction, feature>| over the features of that side that has fewer dimensions.

    Args, raises: as `svcca`. Returns: from 0 to 1.
    """
    left, right = _matrices(x, y)
    bases = _directions(left, 1.0, "x"), _directions(right, 1.0, "y")
    if bases[1].shape[1] < bases[0].shape[1]:
        (left, right), bases = (right, left), bases[::-1]
    rotation, correlations, _ = np.linalg.svd(bases[0].T @ bases[1], full_matrices=False)
    weights = np.abs((bases[0] @ rotation).T @ left).sum(axis=1)
    return float(np.clip(correlations, 0, 1) @ weights / weights.sum())


def cka(x: Features, y: Features) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019, arXiv:1905.00414).

    ||Y'X||_F^2 / (||X'X||_F ||Y'Y||_F) of centred features. Needs no more examples than features.

    Args, raises: as `svcca`. Returns: from 0 to 1; the same for any rotation and common scaling.
    """
    left, right = _matrices(x, y)
    if len(left) < max(left.shape[1], right.shape[1]):  # the Gram matrices are the smaller ones
        gram, other = left @ left.T, right @ right.T
        cross, mine, theirs = (gram * other).sum(), np.linalg.norm(gram), np.linalg.norm(other)
    else:
        cross = np.linalg.norm(right.T @ left) ** 2
        mine, theirs = np.linalg.norm(left.T @ left), np.linalg.norm(right.T @ right)
    return float(cross / (mine * theirs))


def random_baseline(
    measure: Measure, x: Features, y: Features, *, repeats: int = 5, seed: int = 0
) -> Float[np.ndarray, " repeats"]:
    """Return the chance level of a measure: its values for unrelated normal noise of both shapes.

    Args:
        measure: `svcca`, `pwcca` or `cka`.
        x, y: The features to compare with; only their shapes matter.
        repeats: Number of independent draws.
        seed: Seed of the noise.
    """
    left, right = examples_of(x, y)
    rng = np.random.default_rng(seed)
    return np.array(
        [measure(rng.normal(size=left.shape), rng.normal(size=right.shape)) for _ in range(repeats)]
    )


def canonical_correlations(left: Matrix, right: Matrix) -> Float[np.ndarray, " k"]:
    """Cosines of the principal angles between two orthonormal bases, falling (Bjorck and Golub 1973)."""
    return np.clip(np.linalg.svd(left.T @ right, compute_uv=False), 0, 1)


def examples_of(x: Features, y: Features) -> tuple[Matrix, Matrix]:
    """Return two sets of features as matrices (examples, features), as `svcca` describes it."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim > 2 and x.shape[:-1] == y.shape[:-1]:
        return x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    return _pooled(x), _pooled(y)


def _pooled(x: np.ndarray) -> np.ndarray:
    return x.mean(axis=tuple(range(1, x.ndim - 1))) if x.ndim > 2 else x


def _matrices(x: Features, y: Features) -> tuple[Matrix, Matrix]:
    if np.ndim(x) < 2 or np.ndim(y) < 2 or len(x) != len(y):
        raise UserError(
            f"features of shapes {np.shape(x)} and {np.shape(y)} are not (examples, ..., features) "
            "of the same examples"
        )
    left, right = examples_of(x, y)
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise UserError("features hold values that are not finite")
    left, right = left - left.mean(axis=0), right - right.mean(axis=0)
    if not (left.any() and right.any()):
        raise UserError("features are the same for every example: no similarity is defined")
    return left, right


def _directions(centred: Matrix, variance: float, side: str) -> Matrix:
    """Orthonormal basis (examples, k) of the directions that hold a share of the variance."""
    basis, scale, _ = np.linalg.svd(centred, full_matrices=False)
    real = scale > scale[0] * max(centred.shape) * np.finfo(float).eps
    shares = np.cumsum(scale**2) / np.sum(scale**2)
    count = min(int(np.searchsorted(shares, variance - 1e-12)) + 1, int(real.sum()))
    if count >= len(centred) - 1:
        raise UserError(
            f"{side} has {len(centred)} examples for {count} directions: canonical correlations need "
            "more examples than features (ten times as many are advised), or use cka"
        )
    return basis[:, :count]


def _kept(correlations: np.ndarray, threshold: float) -> int:
    """Return the number of leading correlations that make up `threshold` of their sum."""
    if not correlations.sum():
        return len(correlations)
    shares = np.cumsum(correlations) / correlations.sum()
    return min(int(np.searchsorted(shares, threshold - 1e-12)) + 1, len(correlations))
