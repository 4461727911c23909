"""One difference over several data sets: random effects, Hartung and Knapp's interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ttl_jax.typing import Float


@dataclass(frozen=True)
class Pooled:
    """Mean of a difference over data sets like these, and where a new data set's difference lies.

    Attributes:
        estimate: weighted mean; low, high, p: of other data sets like these, t with sets - 1 freedoms.
        predicted_low: with predicted_high, the interval of the true difference on one more data set.
        tau: standard deviation of the true differences between data sets.
        sets: number of data sets.
    """

    estimate: float
    low: float
    high: float
    p: float
    predicted_low: float
    predicted_high: float
    tau: float
    level: float
    sets: int


def pooled_difference(
    estimates: Sequence[float], variances: Sequence[float], level: float = 0.95
) -> Pooled | None:
    """Random-effects meta-analysis, tau^2 by Paule and Mandel, errors by Hartung, Knapp, Sidik and Jonkman.

    The error is from how the data sets' differences scatter (Hartung & Knapp 2001, Stat. Med. 20:3875), so
    that it holds what training seeds add, even with one seed a data set. The prediction interval is that of
    Higgins, Thompson & Spiegelhalter (2009, JRSS A 172:137), t with sets - 2 freedoms.

    Args:
        estimates: a difference a data set.
        variances: theirs, above 0.
        level: confidence of both intervals.

    Returns:
        None with fewer than three data sets.
    """
    from scipy import stats

    effects, within = np.asarray(estimates, np.float64), np.asarray(variances, np.float64)
    sets = len(effects)
    if sets < 3:
        return None
    between = _paule_mandel(effects, within)
    weights = 1 / (within + between)
    estimate = float(weights @ effects / weights.sum())
    error = math.sqrt(float(weights @ (effects - estimate) ** 2 / ((sets - 1) * weights.sum())))
    half = float(stats.t.ppf((1 + level) / 2, sets - 1)) * error
    apart = float(stats.t.ppf((1 + level) / 2, sets - 2)) * math.sqrt(between + error**2)
    p = 2 * float(stats.t.sf(abs(estimate) / error, sets - 1)) if error else float(estimate == 0)
    return Pooled(
        estimate, estimate - half, estimate + half, p, estimate - apart, estimate + apart,
        math.sqrt(between), level, sets,
    )  # fmt: skip


def _paule_mandel(effects: Float[np.ndarray, "sets"], within: Float[np.ndarray, "sets"]) -> float:
    """The tau^2 under which the weighted squares are what they should be: sets - 1, their expectation.

    statsmodels' iteration falls back to 0 where rounding takes its last step below the root.
    """
    from scipy.optimize import brentq

    def excess(between: float) -> float:
        weights = 1 / (within + between)
        return float(weights @ (effects - weights @ effects / weights.sum()) ** 2) - (len(effects) - 1)

    if excess(0.0) <= 0:
        return 0.0
    most = float(((effects - effects.mean()) ** 2).sum())  # where the squares are less than 1
    return float(brentq(excess, 0.0, most, xtol=1e-15))
