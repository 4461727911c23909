"""How far each patient moves a metric: the infinitesimal jackknife, in O(n log n) for many runs at once.

The influence of an example is the derivative of the metric with respect to the example's weight (Efron 1982,
"The Jackknife, the Bootstrap and Other Resampling Plans", chapter 6). Summed over a patient's examples, their
products over patients are the variances and covariances of several runs' figures on the same patients: for
AUROC those of DeLong (1988), with clusters those of Obuchowski (1997, Biometrics 53:567).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ttl_jax.evaluation.probability import (
    Task,
    checked_labels,
    checked_logits,
    decide,
    log_odds,
    probabilities,
)
from ttl_jax.typing import Bool, Float, Int, Shaped

METRICS = ("auroc", "auprc", "accuracy", "balanced_accuracy", "f1_macro", "mcc", "kappa")
_STEP = 1e-3  # of a count, in the central difference of a smooth function of counts: error about 1e-9


@dataclass(frozen=True)
class Influence:
    """A metric of several runs on the same examples, and what each group of examples moves it by.

    Attributes:
        values: the metric, as `score` gives it; NaN where it is not defined.
        groups: the influence of every group: squared and summed they are the variance of `values`; NaN where
            a class whose examples count apart stands in one group alone, of which nothing can be said.
    """

    values: Float[np.ndarray, "runs"]
    groups: Float[np.ndarray, "runs groups"]


def influence(
    labels: Shaped[np.ndarray, "..."],
    logits: Float[np.ndarray, "runs n c"],
    groups: Shaped[np.ndarray, "n"],
    metric: str = "auroc",
    task: Task = "multiclass",
) -> Influence:
    """The metric of each run and the influence of each group of examples on it.

    The influences of a class's examples are stretched by sqrt(m / (m - 1)), m the groups that hold the class,
    as in DeLong's variance: without that a class of ten would look a tenth too sure. For accuracy all
    examples are one class.

    Args:
        labels: as in `score`.
        logits: of several runs on the same examples.
        groups: patients.
        metric: one of METRICS, defined as in `score`.
        task: form of the labels.

    Raises:
        ValueError: shapes that differ, a metric that is not known.
    """
    if metric not in METRICS:
        raise ValueError(f"metric is one of {', '.join(METRICS)}, not {metric!r}")
    runs = np.asarray(logits)
    flat = checked_logits(runs.reshape(-1, runs.shape[-1]), task)  # what goes row by row, of all runs at once
    truth = checked_labels(labels, flat.reshape(runs.shape)[0], task)
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    if len(place) != len(truth):
        raise ValueError(f"{len(truth)} labels and {len(place)} groups")
    values, moved = [], []
    for about, seen, true, said in parts_of(truth, flat.reshape(runs.shape), metric, task):
        value, each = about(true, said)
        each = each * _stretch(np.zeros_like(true) if metric == "accuracy" else true, place[seen])
        values.append(value)
        moved.append([np.bincount(place[seen], weights=row, minlength=len(names)) for row in each])
    if not values:
        return Influence(np.full(len(runs), np.nan), np.full((len(runs), len(names)), np.nan))
    return Influence(np.mean(values, axis=0), np.mean(moved, axis=0))


About = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]  # of (truth, scores or decisions)
Questions = Iterator[tuple[About, np.ndarray, np.ndarray, np.ndarray]]


def parts_of(
    truth: Shaped[np.ndarray, "..."], logits: Float[np.ndarray, "runs n c"], metric: str, task: Task
) -> Questions:
    """The parts that a metric is the mean of: classes against the rest, labels, or one, all decisions.

    Of each: a function to the figure of every run and the influence of every example on it, which examples it
    is about, their truth, and the runs' scores or decisions of them.

    Args:
        truth: of `checked_labels`.
        logits: of `checked_logits`.
        metric: one of METRICS, or "auprc_macro": of both classes where there are two.
        task: form of the labels.
    """
    flat = logits.reshape(-1, logits.shape[-1])
    if metric in _RANKINGS:
        return _ranked(truth, log_odds(flat, task).reshape(logits.shape), task, metric)
    said = decide(probabilities(flat, task), task)
    return _decided(truth, said.reshape(logits.shape[:2] + said.shape[1:]), logits.shape[2], task, metric)


def _ranked(truth: np.ndarray, odds: np.ndarray, task: Task, metric: str) -> Questions:
    """Class by class against the rest, where both kinds are known; of two classes the second alone."""
    single = task == "multiclass" and odds.shape[2] == 2 and metric != "auprc_macro"
    columns = [1] if single else range(odds.shape[2])
    for column in columns:
        one = (truth == column).astype(np.float64) if task == "multiclass" else truth[:, column]
        known = ~np.isnan(one)
        if {0.0, 1.0} <= set(one[known].tolist()):
            yield _RANKINGS[metric], known, one[known] == 1, odds[:, known, column]


def _decided(truth: np.ndarray, said: np.ndarray, classes: int, task: Task, metric: str) -> Questions:
    """All classes in one table of counts, or label by label where the metric is defined."""
    if task == "multiclass":
        yield _of_counts(_COUNTED[metric], classes), np.ones(len(truth), bool), truth, said
        return
    of_counts = _f1_of_ones if metric == "f1_macro" else _COUNTED[metric]
    for column in range(truth.shape[1]):
        known = ~np.isnan(truth[:, column])
        if len(set(truth[known, column].tolist())) >= (1 if metric == "accuracy" else 2):
            true = truth[known, column].astype(np.int64)
            yield _of_counts(of_counts, 2), known, true, said[:, known, column]


def _stretch(kinds: Shaped[np.ndarray, "n"], place: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """sqrt(m / (m - 1)) of every example, m the groups that hold its kind; NaN where that is one."""
    made = np.empty(len(kinds))
    for kind in np.unique(kinds):
        held = len(np.unique(place[kinds == kind]))
        made[kinds == kind] = np.sqrt(held / (held - 1)) if held > 1 else np.nan
    return made


def _sorted(truth: Bool[np.ndarray, "n"], scores: Float[np.ndarray, "runs n"]) -> tuple[np.ndarray, ...]:
    """From the highest score down: the order, the truth in it, first and last place of the ties of each."""
    order = np.argsort(-scores, axis=1, kind="stable")
    falling, count = np.take_along_axis(scores, order, axis=1), scores.shape[1]
    steps, places = falling[:, 1:] != falling[:, :-1], np.arange(count)
    edge = np.ones((len(scores), 1), bool)
    first = np.maximum.accumulate(np.where(np.hstack([edge, steps]), places, 0), axis=1)
    last = np.minimum.accumulate(np.where(np.hstack([steps, edge]), places, count)[:, ::-1], axis=1)[:, ::-1]
    return order, truth[order], first, last


def _unsorted(
    moved: Float[np.ndarray, "runs n"], order: Int[np.ndarray, "runs n"]
) -> Float[np.ndarray, "runs n"]:
    each = np.empty(moved.shape)
    np.put_along_axis(each, order, moved, axis=1)
    return each


def _auroc(
    truth: Bool[np.ndarray, "n"], scores: Float[np.ndarray, "runs n"]
) -> tuple[Float[np.ndarray, "runs"], Float[np.ndarray, "runs n"]]:
    """From the share of the other class that an example beats, ties counting half (DeLong's components)."""
    order, up, first, last = _sorted(truth, scores)
    ups, downs = int(truth.sum()), int((~truth).sum())
    hits = np.cumsum(up, axis=1)
    to_last = np.take_along_axis(hits, last, axis=1)
    before = np.take_along_axis(hits - up, first, axis=1)  # positives above
    above = (before + to_last) / 2  # positives above, ties counting half, and so of the negatives
    below = downs - (first + last + 1) / 2 + above
    beaten = np.where(up, below / downs, above / ups)
    values = (up * beaten).sum(axis=1) / ups
    return values, _unsorted((beaten - values[:, None]) / np.where(up, ups, downs), order)


def _auprc(
    truth: Bool[np.ndarray, "n"], scores: Float[np.ndarray, "runs n"]
) -> tuple[Float[np.ndarray, "runs"], Float[np.ndarray, "runs n"]]:
    """Average precision is the mean over positives of hits / said at their score; both sums have weights."""
    order, up, first, last = _sorted(truth, scores)
    hits, said = np.take_along_axis(np.cumsum(up, axis=1), last, axis=1), last + 1.0
    precision, positives = hits / said, truth.sum()
    values = (up * precision).sum(axis=1) / positives

    def below(terms: np.ndarray) -> np.ndarray:
        """The sum over the positives of the same score or a lower one: those whose hits the example is in."""
        return np.take_along_axis(np.cumsum((up * terms)[:, ::-1], axis=1)[:, ::-1], first, axis=1)

    moved = up * (precision - values[:, None] + below(1 / said)) - below(precision / said)
    return values, _unsorted(moved / positives, order)


def _of_counts(metric: Callable[[np.ndarray], np.ndarray], classes: int) -> About:
    """A function of confusion counts: an example's influence is the derivative by its own cell."""

    def about(truth: np.ndarray, decided: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, each = np.empty(len(decided)), np.empty(decided.shape)
        for run, said in enumerate(decided):
            cells, own = np.unique(truth * classes + said, return_inverse=True)
            counts = np.bincount(cells[own], minlength=classes**2).astype(np.float64)
            steps = np.zeros((len(cells), classes**2))  # an absent class is never given a first example
            steps[np.arange(len(cells)), cells] = _STEP
            shape = (-1, classes, classes)
            slopes = metric((counts + steps).reshape(shape)) - metric((counts - steps).reshape(shape))
            values[run], each[run] = metric(counts.reshape(shape))[0], (slopes / (2 * _STEP))[own]
        return values, each

    return about


Counts = Float[np.ndarray, "tables c c"]  # rows true, columns decided


def _accuracy(counts: Counts) -> np.ndarray:
    return np.trace(counts, axis1=1, axis2=2) / counts.sum(axis=(1, 2))


def _present(counts: Counts) -> np.ndarray:
    return counts[0].sum(axis=1) > 0


def _balanced_accuracy(counts: Counts) -> np.ndarray:
    there = _present(counts)
    hits, support = np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2)
    return (hits[:, there] / support[:, there]).mean(axis=1)


def _f1(counts: Counts) -> np.ndarray:
    hits, both = np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2) + counts.sum(axis=1)
    return np.divide(2 * hits, both, out=np.zeros(hits.shape), where=both > 0)


def _f1_macro(counts: Counts) -> np.ndarray:
    return _f1(counts)[:, _present(counts)].mean(axis=1)


def _f1_of_ones(counts: Counts) -> np.ndarray:
    return _f1(counts)[:, 1]


def _mcc(counts: Counts) -> np.ndarray:
    true, said, total = counts.sum(axis=2), counts.sum(axis=1), counts.sum(axis=(1, 2))
    squares = (total**2 - (true**2).sum(axis=1)) * (total**2 - (said**2).sum(axis=1))
    spread = np.sqrt(np.maximum(squares, 0.0))
    covariance = total * np.trace(counts, axis1=1, axis2=2) - (true * said).sum(axis=1)
    undefined = np.where(_present(counts).sum() > 1, 0.0, np.nan)
    # Rounding leaves 1e-6 or so of a spread that is 0 where all decisions are alike.
    return np.divide(covariance, spread, out=np.full(len(counts), undefined), where=spread > 1e-9 * total**2)


def _kappa(counts: Counts) -> np.ndarray:
    if _present(counts).sum() < 2:
        return np.full(len(counts), np.nan)
    chance = (counts.sum(axis=2) * counts.sum(axis=1)).sum(axis=1) / counts.sum(axis=(1, 2)) ** 2
    return (_accuracy(counts) - chance) / (1 - chance)


_RANKINGS: dict[str, About] = {"auroc": _auroc, "auprc": _auprc, "auprc_macro": _auprc}
_COUNTED: dict[str, Callable[[Counts], np.ndarray]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "f1_macro": _f1_macro,
    "mcc": _mcc,
    "kappa": _kappa,
}
