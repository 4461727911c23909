"""Variances of few replicates borrow strength from each other: empirical Bayes (Smyth 2004, SAGMB 3:3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ttl_jax.evaluation.components import Components
from ttl_jax.typing import Float


@dataclass(frozen=True)
class Prior:
    """True variances scatter as variance * freedom / chi squared(freedom); inf: all are the same."""

    variance: float
    freedom: float


def variance_prior(variances: Float[np.ndarray, "m"], freedoms: Float[np.ndarray, "m"]) -> Prior | None:
    """Fits the prior to the mean and the variance of the log-variances (section 6.2; limma's fitFDist).

    Args:
        variances: sample variances; those of 0 or without freedom say nothing.
        freedoms: their degrees of freedom.

    Returns:
        None where fewer than three variances are known.
    """
    from scipy.special import digamma, polygamma

    known = (freedoms > 0) & (variances > 0)  # False for NaN
    if known.sum() < 3:
        return None
    half = freedoms[known] / 2
    logs = np.log(variances[known]) - digamma(half) + np.log(half)
    excess = logs.var(ddof=1) - polygamma(1, half).mean()
    if excess <= 0:
        return Prior(float(np.exp(logs.mean())), np.inf)
    prior = _trigamma_inverse(excess)
    return Prior(float(np.exp(logs.mean() + digamma(prior) - np.log(prior))), 2 * prior)


def moderated(comparisons: Sequence[Components], most: float = 1.0) -> list[Components]:
    """The components with each seed variance replaced by its posterior mean given all of them.

    (d0 s0^2 + d s^2) / (d0 + d) with d0 + d degrees of freedom. A variance of exactly 0, as of strategies
    that take no random number, stays.

    Args:
        comparisons: components of all comparisons of a study.
        most: d0 is at most `most` d: one strategy that seeds move far more than all others would else be
            taken for one of them where its few seeds agree by chance, and "found" in 29 % of studies.
            math.inf is Smyth's estimate itself.
    """
    variances = np.array([each.seed_variance for each in comparisons])
    freedoms = np.array([each.seed_freedom for each in comparisons], np.float64)
    prior = variance_prior(variances, freedoms)
    if prior is None:
        return list(comparisons)
    together = freedoms[variances > 0].sum()

    def one(each: Components) -> Components:
        if not each.seed_variance > 0:  # of one seed it is NaN
            return each
        own, borrowed = each.seed_freedom, min(prior.freedom, most * each.seed_freedom)
        share = 1.0 if math.isinf(borrowed) else borrowed / (own + borrowed)
        variance = share * prior.variance + (1 - share) * each.seed_variance
        return replace(each, seed_variance=variance, seed_freedom=min(own + borrowed, together))

    return [one(each) for each in comparisons]


def _trigamma_inverse(value: float) -> float:
    """The x of trigamma(x) = value, by Newton's steps (Smyth's appendix)."""
    from scipy.special import polygamma

    x = 0.5 + 1.0 / value
    for _ in range(50):
        slope = polygamma(1, x)
        step = slope * (1 - slope / value) / polygamma(2, x)
        x += step
        if -step / x < 1e-10:
            break
    return float(x)
