"""Two models on the same examples: McNemar, a clustered permutation, a clustered bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ttl_jax.evaluation.bootstrap import weighing
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
    """a - b: its estimate, interval and two-sided p-value; None where they cannot be given."""

    estimate: float
    low: float | None
    high: float | None
    p: float | None
    level: float
    groups: int
    seeds: int


def mcnemar(right_a: Bool[np.ndarray, "n"], right_b: Bool[np.ndarray, "n"], exact: bool = True) -> McNemar:
    """McNemar's test of two models' decisions on the same examples (Psychometrika 1947, 12:153).

    Args:
        right_a: whether the first model has each example right.
        right_b: the second.
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
    found = tested(table, exact=exact, correction=True)
    return McNemar(only_a, only_b, None if exact else float(found.statistic), min(float(found.pvalue), 1.0))


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
        values_b: of the second.
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
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Mean over seeds of metric(a) - metric(b), with patients and seeds resampled together.

    Run s of a and run s of b share their random numbers, so that they are drawn as a pair; every
    resample draws patients (the same for all runs) and runs, with replacement. The interval is the
    percentiles', the p-value that of estimate / standard deviation of the resamples as a normal variable
    (as in pROC, Robin et al. 2011): a share of resamples could not fall below 1 / resamples, too coarse
    for a correction for many comparisons. Resampling a handful of runs makes their part of the spread
    too small by (S - 1) / S in variance.

    Args:
        labels: as in `score`.
        logits_a: one array a run.
        logits_b: as many.
        groups: (N,) patients.
        metric: "auroc" or "accuracy".

    Raises:
        ValueError: no runs, or not as many of a as of b.
    """
    from scipy import stats

    if not logits_a or len(logits_a) != len(logits_b):
        raise ValueError(f"{len(logits_a)} and {len(logits_b)} runs: pairs are needed")
    pairs = [
        tuple(weighing(np.asarray(labels), np.asarray(logits), metric, task) for logits in pair)
        for pair in zip(logits_a, logits_b, strict=True)
    ]

    def differences(weights: np.ndarray) -> np.ndarray:
        return np.stack([first(weights) - second(weights) for first, second in pairs], axis=1)

    rows = len(labels)
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    estimate = float(differences(np.ones((1, rows))).mean())
    runs = len(pairs)
    if len(names) < 2 or not np.isfinite(estimate):
        return Difference(estimate, None, None, None, level, len(names), runs)
    random, parts, left = np.random.default_rng(seed), [np.empty(0)], resamples
    while left:
        now = min(left, max(1, _CELLS // rows))
        drawn = random.integers(len(names), size=(now, len(names)))
        times = np.stack([np.bincount(row, minlength=len(names)) for row in drawn])
        each = differences(times[:, place].astype(np.float64))
        chosen = random.integers(runs, size=(now, runs))
        parts.append(np.take_along_axis(each, chosen, axis=1).mean(axis=1))
        left -= now
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    if 2 * len(values) < resamples:
        return Difference(estimate, None, None, None, level, len(names), runs)
    tail = (1 - level) / 2
    low, high = (float(edge) for edge in np.quantile(values, (tail, 1 - tail)))
    p = _two_sided(estimate, float(values.std(ddof=1)), stats.norm.sf)
    return Difference(estimate, low, high, p, level, len(names), runs)


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
    if k < 2 or not np.isfinite(mean):
        return Difference(mean, None, None, None, level, groups, seeds)
    deviation = float(np.sqrt((1 / k + test_share) * values.var(ddof=1)))
    half = float(stats.t.ppf((1 + level) / 2, k - 1)) * deviation
    p = _two_sided(mean, deviation, lambda t: stats.t.sf(t, k - 1))
    return Difference(mean, mean - half, mean + half, p, level, groups, seeds)


def _two_sided(estimate: float, deviation: float, beyond: Callable[[float], float]) -> float:
    """The p-value of a difference; without any spread it is certain, or none."""
    if deviation == 0.0:
        return 1.0 if estimate == 0.0 else 0.0
    return min(1.0, 2 * float(beyond(abs(estimate) / deviation)))
