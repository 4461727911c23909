"""The mean of a figure over training seeds (or folds), and how well it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MeanInterval:
    """mean of n values and its confidence interval; low and high are None with one value, or all alike."""

    mean: float
    low: float | None
    high: float | None
    n: int
    sd: float | None


def mean_interval(
    values: Sequence[float], level: float = 0.95, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> MeanInterval:
    """Student's t interval: mean +- t(n - 1) * s / sqrt(n), s the sample standard deviation.

    It speaks of other seeds on the same test set; how far another test set would differ is
    `score_interval`'s to say.

    Args:
        values: one figure a seed.
        level: confidence of the interval.
        bounds: lowest and highest possible value; the interval ends there.

    Raises:
        ValueError: no values.
    """
    from scipy import stats

    figures = np.asarray(values, np.float64)
    if not len(figures):
        raise ValueError("the mean of no values")
    mean = float(figures.mean())
    if len(figures) == 1:
        return MeanInterval(mean, None, None, 1, None)
    sd = float(figures.std(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, len(figures) - 1)) * sd / len(figures) ** 0.5
    if sd == 0.0:  # values that happen to be alike say nothing of how they vary
        return MeanInterval(mean, None, None, len(figures), sd)
    low, high = max(mean - half, bounds[0]), min(mean + half, bounds[1])
    return MeanInterval(mean, low, high, len(figures), sd)
