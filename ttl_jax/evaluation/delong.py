"""DeLong's test: two AUROCs on the same examples, their covariance in O(n log n)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttl_jax.typing import Float, Shaped


@dataclass(frozen=True)
class DeLong:
    """AUROCs of a and b, their covariance matrix (2, 2), and what follows for a - b.

    z is 0 and p is 1 where the two rank alike; low and high bound the difference a - b.
    """

    auroc_a: float
    auroc_b: float
    covariance: Float[np.ndarray, "2 2"]
    z: float
    p: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """auroc_a - auroc_b."""
        return self.auroc_a - self.auroc_b


def delong(
    labels: Shaped[np.ndarray, "n"],
    scores_a: Float[np.ndarray, "n"],
    scores_b: Float[np.ndarray, "n"],
    level: float = 0.95,
) -> DeLong:
    """Compares two correlated AUROCs (DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44:837).

    The structural components come from midranks (Sun & Xu 2014, IEEE SPL 21:1389). Examples are taken
    as independent: where patients have several images, `paired_difference` is the one to use.

    Args:
        labels: 0 and 1.
        scores_a: larger for label 1, of the first model; anything that ranks, as log odds.
        scores_b: the same of the second model.
        level: share of studies that the interval of the difference covers.

    Raises:
        ValueError: lengths differ, a label is neither 0 nor 1, a class has fewer than two examples, or
            a score is not finite.
    """
    from scipy import stats

    aurocs, covariance = delong_covariance(labels, np.stack([scores_a, scores_b]))
    difference = float(aurocs[0] - aurocs[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    # Rounding leaves a variance of 1e-18 or so where the two rank alike.
    deviation = np.sqrt(variance) if variance > 1e-15 else 0.0
    if deviation == 0.0:
        z = 0.0 if abs(difference) < 1e-12 else float(np.copysign(np.inf, difference))
    else:
        z = difference / deviation
    half = float(stats.norm.ppf((1 + level) / 2)) * deviation
    return DeLong(
        float(aurocs[0]), float(aurocs[1]), covariance, float(z), float(2 * stats.norm.sf(abs(z))),
        difference - half, difference + half,
    )  # fmt: skip


def delong_covariance(
    labels: Shaped[np.ndarray, "n"], scores: Float[np.ndarray, "models n"]
) -> tuple[Float[np.ndarray, "models"], Float[np.ndarray, "models models"]]:
    """AUROCs of several models on the same examples, and their covariance matrix; see `delong`."""
    from scipy import stats

    truth, values = np.asarray(labels), np.asarray(scores, np.float64)
    if values.ndim != 2 or values.shape[1] != len(truth):
        raise ValueError(f"scores {values.shape} do not fit {len(truth)} labels")
    if not np.isin(truth, (0, 1)).all() or not np.isfinite(values).all():
        raise ValueError("DeLong's test takes labels 0 and 1, and finite scores")
    positive = truth == 1
    ups, downs = int(positive.sum()), int((~positive).sum())
    if min(ups, downs) < 2:
        raise ValueError(f"DeLong's test needs two examples of either class, not {ups} and {downs}")
    whole = stats.rankdata(values, axis=1)
    # The share of the other class that an example beats, ties counting half: V10 and V01.
    above = (whole[:, positive] - stats.rankdata(values[:, positive], axis=1)) / downs
    below = 1.0 - (whole[:, ~positive] - stats.rankdata(values[:, ~positive], axis=1)) / ups
    return above.mean(axis=1), np.cov(above) / ups + np.cov(below) / downs
