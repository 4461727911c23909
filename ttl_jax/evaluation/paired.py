"""Two models on the same examples: McNemar, a clustered permutation, a difference over seeds or folds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ttl_jax.evaluation.components import Components, paired_components
from ttl_jax.evaluation.probability import Task
from ttl_jax.typing import Bool, Float, Shaped

_CELLS = 4_000_000  # numbers held at once, 32 MB


@dataclass(frozen=True)
class McNemar:
    """only_a, only_b: examples that one alone has right; statistic is None for the exact test."""

    only_a: int
    only_b: int
    statistic: float | None
    p: float


@dataclass(frozen=True)
class Difference:
    """a - b: its estimate, interval and two-sided p-value; None where they cannot be given.

    variance: of the estimate. caveat: why nothing can be claimed from it, None where something can.
    """

    estimate: float
    low: float | None
    high: float | None
    p: float | None
    level: float
    groups: int
    seeds: int
    caveat: str | None = None
    variance: float | None = None


def mcnemar(right_a: Bool[np.ndarray, "n"], right_b: Bool[np.ndarray, "n"], exact: bool = True) -> McNemar:
    """McNemar's test of two models' decisions on the same examples (Psychometrika 1947, 12:153).

    Args:
        right_a: True where the first model decides an example right.
        right_b: the same of the second model.
        exact: binomial; False: chi squared with Edwards' continuity correction, (|b - c| - 1)^2 / (b + c).

    Raises:
        ValueError: lengths that differ.
    """
    from statsmodels.stats.contingency_tables import mcnemar as tested

    a, b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"decisions {a.shape} and {b.shape} are not on the same examples")
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    if only_a + only_b == 0:
        return McNemar(0, 0, None if exact else 0.0, 1.0)
    table = [[int((a & b).sum()), only_a], [only_b, int((~a & ~b).sum())]]
    outcome = tested(table, exact=exact, correction=True)
    statistic = None if exact else float(outcome.statistic)
    return McNemar(only_a, only_b, statistic, min(float(outcome.pvalue), 1.0))


def paired_permutation(
    values_a: Float[np.ndarray, "n"],
    values_b: Float[np.ndarray, "n"],
    groups: Shaped[np.ndarray, "n"] | None = None,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p of the mean difference, by exchanging a and b within whole groups.

    Exact (all 2^groups exchanges) where there are no more than `resamples` of them; else
    (1 + hits) / (1 + resamples), which is never 0 (Phipson & Smyth 2010).

    Args:
        values_a: a figure an example, as right or wrong, or the loss, of the first model.
        values_b: the same figures of the second model.
        groups: (N,) patients; None makes every example a group.

    Raises:
        ValueError: lengths that differ.
    """
    difference = np.asarray(values_a, np.float64) - np.asarray(values_b, np.float64)
    members = np.arange(len(difference)) if groups is None else np.asarray(groups)
    if len(members) != len(difference):
        raise ValueError(f"{len(difference)} values and {len(members)} groups")
    names, place = np.unique(members, return_inverse=True)
    sums = np.bincount(place, weights=difference)
    seen = abs(sums.sum()) * (1 - 1e-12)  # the same sum in another order is as extreme
    if len(names) < 60 and 2 ** len(names) <= resamples:
        bits = (np.arange(2 ** len(names))[:, None] >> np.arange(len(names))) & 1
        return float((np.abs((1 - 2 * bits) @ sums) >= seen).mean())
    random, hits, left = np.random.default_rng(seed), 0, resamples
    while left:
        now = min(left, max(1, _CELLS // len(names)))
        signs = random.integers(0, 2, size=(now, len(names))) * 2 - 1
        hits += int((np.abs(signs @ sums) >= seen).sum())
        left -= now
    return (1 + hits) / (1 + resamples)


def paired_difference(
    labels: Shaped[np.ndarray, "..."],
    logits_a: Sequence[Float[np.ndarray, "n c"]],
    logits_b: Sequence[Float[np.ndarray, "n c"]],
    groups: Shaped[np.ndarray, "n"],
    metric: str = "auroc",
    *,
    task: Task = "multiclass",
    level: float = 0.95,
) -> Difference:
    """Mean over seeds of metric(a) - metric(b), for other patients and other seeds of the same strategies.

    The variance has two parts, `components.paired_components`; interval and p-value are of one statistic,
    `difference_of`: p < 1 - level exactly where the interval excludes 0. With one seed they speak of other
    patients alone, and `caveat` says so.

    Args:
        labels: int (N,) or float (N, L) with NaN for unknown.
        logits_a: (N, C) of the first strategy, one array a seed.
        logits_b: as many; run s of a and run s of b share what the study shares, as their random numbers.
        groups: (N,) patients.
        metric: a name in `registry`.
        task: form of the labels.
        level: confidence of the interval.

    Raises:
        ValueError: no runs, or not as many of a as of b.
        UserError: a metric that is not known.
    """
    return difference_of(paired_components(labels, logits_a, logits_b, groups, metric, task), level)


def difference_of(components: Components, level: float = 0.95) -> Difference:
    """Interval and p-value of a difference from its components: see `Components.half_width`.

    Args:
        components: result of `paired_components`, moderated or not.
        level: confidence of the interval.
    """
    from scipy.optimize import brentq

    about = level, components.groups, components.seeds, components.caveat
    if not components.known:
        return Difference(components.estimate, None, None, None, *about)
    half, distance = components.half_width(1 - level), abs(components.estimate)
    least = -690.0  # log of 1e-300
    if distance == 0.0 or components.half_width(math.exp(least)) <= distance:
        p = 1.0 if distance == 0.0 else 0.0
    else:  # the level at which the interval ends at 0
        p = math.exp(brentq(lambda log: components.half_width(math.exp(log)) - distance, least, 0.0))
    return Difference(
        components.estimate,
        components.estimate - half,
        components.estimate + half,
        p,
        *about,
        components.variance,
    )


def fold_difference(
    differences: Sequence[float], test_share: float, *, groups: int, seeds: int, level: float = 0.95
) -> Difference:
    """Corrected resampled t-test over cross-validation folds (Nadeau & Bengio 2003, ML 52:239).

    The variance of the mean is (1 / k + n_test / n_train) s^2: folds share training examples, so that
    s^2 / k would be too small.

    Args:
        differences: a - b, one a fold, NaN where it is not defined (then nothing can be said).
        test_share: n_test / n_train of a fold.
        groups: patients over all folds, and
        seeds: runs in each fold; both only to be told.

    Raises:
        ValueError: no folds.
    """
    from scipy import stats

    values = np.asarray(differences, np.float64)
    if not len(values):
        raise ValueError("a difference over no folds")
    mean, k = float(values.mean()), len(values)
    unknown = "no variance can be estimated"
    if k < 2 or not np.isfinite(mean):
        return Difference(mean, None, None, None, level, groups, seeds, unknown)
    deviation = float(np.sqrt((1 / k + test_share) * values.var(ddof=1)))
    if deviation == 0.0 and mean != 0.0:
        return Difference(mean, None, None, None, level, groups, seeds, unknown)
    half = float(stats.t.ppf((1 + level) / 2, k - 1)) * deviation
    p = 2 * float(stats.t.sf(abs(mean) / deviation, k - 1)) if deviation else 1.0
    return Difference(mean, mean - half, mean + half, p, level, groups, seeds, None, deviation**2)
