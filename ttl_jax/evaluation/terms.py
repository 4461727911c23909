"""The terms that a metric is the mean of, and the influence of every example on them.

The influence of an example is the derivative of the metric with respect to the example's weight (Efron 1982,
"The Jackknife, the Bootstrap and Other Resampling Plans", chapter 6). `influence` makes variances and
covariances of several runs of them, `linearise` the interval of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ttl_jax.evaluation.outcomes import Outcomes
from ttl_jax.typing import Bool, Float, Int, Shaped

_STEP = 1e-3  # of a count, in the central difference of a smooth function of counts: error about 1e-9
Kind = Literal["pairs", "positives", "rates", "share", "errors"]


@dataclass(frozen=True)
class MetricTerm:
    """A class against the rest, a label, or all decisions: one of the terms that a metric is the mean of.

    Attributes:
        kind: what it is a mean over: "pairs" of positives and negatives (AUROC), the "positives" (AUPRC),
            the examples of each class apart ("rates": recall, F1, MCC), right answers among all examples
            ("share"), or "errors" of all examples, which vary less than a share does.
        seen: the examples that it is about.
        truth: their labels, bool for a ranking, else class indices.
        values: the term of every model; NaN where it is not defined.
        influences: derivative of the values by the weight of each of those examples.
    """

    kind: Kind
    seen: Bool[np.ndarray, "examples"]
    truth: Shaped[np.ndarray, "k"]
    values: Float[np.ndarray, "models"]
    influences: Float[np.ndarray, "models k"]

    @property
    def strata(self) -> Shaped[np.ndarray, "k"]:
        """The class of every example where classes count apart, else all alike."""
        return np.zeros(len(self.truth), int) if self.kind in ("share", "errors") else self.truth

    @property
    def classes(self) -> tuple[tuple[Bool[np.ndarray, "k"], ...], ...]:
        """The examples behind each mean: (positives, negatives) of a ranking, those of a class, or all."""
        if self.kind == "pairs":
            return ((self.truth, ~self.truth),)
        if self.kind == "positives":
            return ((self.truth,),)
        return tuple((self.strata == each,) for each in np.unique(self.strata))


Terms = Callable[[Outcomes], Iterator[MetricTerm]]
OfCounts = Callable[[Float[np.ndarray, "tables k k"]], Float[np.ndarray, "tables"]]
OfErrors = Callable[[Outcomes], Float[np.ndarray, "models examples *labels"]]
Ranking = Callable[
    [Bool[np.ndarray, "k"], Float[np.ndarray, "models k"]],
    tuple[Float[np.ndarray, "models"], Float[np.ndarray, "models k"]],
]


def ranking_terms(ranking: Ranking, kind: Kind, both: bool = False) -> Terms:
    """Terms of a ranking: class by class against the rest, where examples of both kinds are known.

    Args:
        ranking: (truth, log odds) -> the values and the influences of these examples.
        kind: "pairs" or "positives", see `MetricTerm`.
        both: take both of two exclusive classes, not the second alone.
    """

    def terms(seen: Outcomes) -> Iterator[MetricTerm]:
        single = not seen.multilabel and seen.logits.shape[2] == 2 and not both
        for place, known, truth in seen.one_against_rest():
            if place >= single and truth.any() and not truth.all():
                yield MetricTerm(kind, known, truth, *ranking(truth, seen.log_odds[:, known, place]))

    return terms


def defined_counts(seen: Outcomes, kinds: int) -> Iterator[tuple[int, Float[np.ndarray, "models k k"]]]:
    """The tables of `Outcomes.counts` with examples; of labels those where so many kinds are known."""
    for place, counts in enumerate(seen.counts):
        present = (counts[:1].sum(axis=(0, 2)) > 0).sum()
        if present >= (kinds if seen.multilabel else 1):
            yield place, counts


def count_terms(of_counts: OfCounts, of_label: OfCounts, kinds: int) -> Terms:
    """Terms of a function of confusion counts: an example's influence is the derivative by its own cell.

    Args:
        of_counts: function of the table of all classes.
        of_label: function of a label's table.
        kinds: 1 where the term is a share of all examples, 2 where both kinds of a label have to be known.
    """

    def terms(seen: Outcomes) -> Iterator[MetricTerm]:
        function, kind = (of_label if seen.multilabel else of_counts), ("share" if kinds == 1 else "rates")
        for place, counts in defined_counts(seen, kinds):
            known = seen.known[:, place] if seen.multilabel else np.ones(len(seen.labels), bool)
            truth = (seen.labels[known, place] if seen.multilabel else seen.labels).astype(np.int64)
            decided = seen.decisions[:, known, place] if seen.multilabel else seen.decisions
            moved = np.stack([_by_cell(function, *each, truth) for each in zip(counts, decided, strict=True)])
            yield MetricTerm(kind, known, truth, function(counts), moved)  # type: ignore[arg-type]

    return terms


def _by_cell(
    function: OfCounts,
    counts: Float[np.ndarray, "k k"],
    decided: Int[np.ndarray, "n"],
    truth: Int[np.ndarray, "n"],
) -> Float[np.ndarray, "n"]:
    """The derivative by each example's cell; an absent class is never given a first example."""
    classes = len(counts)
    cells, own = np.unique(truth * classes + decided, return_inverse=True)
    steps = np.zeros((len(cells), classes**2))
    steps[np.arange(len(cells)), cells] = _STEP
    tables = steps.reshape(-1, classes, classes)
    return ((function(counts + tables) - function(counts - tables)) / (2 * _STEP))[own]


def error_terms(errors: OfErrors) -> Terms:
    """The one term of a mean error over examples, or over the known entries of a table of labels.

    Args:
        errors: of every example (entry); those of unknown entries do not count.
    """

    def terms(seen: Outcomes) -> Iterator[MetricTerm]:
        each = errors(seen)
        known = seen.known if seen.multilabel else np.ones(len(seen.labels), bool)
        if not known.any():
            return
        mean = each[:, known].mean(axis=1)
        gaps = np.where(known, each - mean.reshape(-1, *[1] * known.ndim), 0.0)
        rows = np.asarray(known.reshape(len(known), -1).any(axis=1))
        moved = (gaps.sum(axis=2) if seen.multilabel else gaps)[:, rows] / known.sum()
        yield MetricTerm("errors", rows, np.zeros(int(rows.sum()), int), mean, moved)

    return terms


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


def rank_auroc(
    truth: Bool[np.ndarray, "n"], scores: Float[np.ndarray, "runs n"]
) -> tuple[Float[np.ndarray, "runs"], Float[np.ndarray, "runs n"]]:
    """AUROC and its influences, in O(n log n).

    They come from the share of the other class that an example beats, ties counting half: the structural
    components of DeLong (1988).
    """
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


def rank_auprc(
    truth: Bool[np.ndarray, "n"], scores: Float[np.ndarray, "runs n"]
) -> tuple[Float[np.ndarray, "runs"], Float[np.ndarray, "runs n"]]:
    """Average precision and its influences: the mean over positives of hits / said at their score."""
    order, up, first, last = _sorted(truth, scores)
    hits, said = np.take_along_axis(np.cumsum(up, axis=1), last, axis=1), last + 1.0
    precision, positives = hits / said, truth.sum()
    values = (up * precision).sum(axis=1) / positives

    def below(terms: np.ndarray) -> np.ndarray:
        """The sum over the positives of the same score or a lower one: those whose hits the example is in."""
        return np.take_along_axis(np.cumsum((up * terms)[:, ::-1], axis=1)[:, ::-1], first, axis=1)

    moved = up * (precision - values[:, None] + below(1 / said)) - below(precision / said)
    return values, _unsorted(moved / positives, order)
