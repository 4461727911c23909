"""The metrics of this package, one entry each, and `score`, which is all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ttl_jax.evaluation import registry
from ttl_jax.evaluation.calibration import expected_errors, top_label
from ttl_jax.evaluation.outcomes import Figures, Outcomes, outcomes
from ttl_jax.evaluation.probability import Task
from ttl_jax.evaluation.registry import of_counts, of_errors, of_outcomes
from ttl_jax.evaluation.terms import rank_auprc, rank_auroc, ranking_terms
from ttl_jax.registry import register
from ttl_jax.typing import Bool, Float, Int, Shaped

AT_ONCE = 4_000_000  # logits that `score_many` takes at a time; some ten arrays of that size are held
Counts = Float[np.ndarray, "tables k k"]  # rows true, columns decided


@register("metric")
@of_outcomes("AUROC", terms=ranking_terms(rank_auroc, "pairs"))
def auroc(seen: Outcomes) -> Float[np.ndarray, "models"]:
    """Chance that a random positive is ranked above a random negative; 0.5 is chance.

    Two classes: class index 1 against 0; more: mean one-versus-rest over the classes (labels) present.
    """
    return seen.mean(seen.positives, "auroc")


@register("metric")
@of_outcomes("AUPRC", terms=ranking_terms(rank_auprc, "positives"), chance="prevalence")
def auprc(seen: Outcomes) -> Float[np.ndarray, "models"]:
    """Average precision. Chance is the prevalence, so it is shown beside it.

    Step-wise and not interpolated; averaged over classes as AUROC.
    """
    return seen.mean(seen.positives, "auprc")


@register("metric")
@of_outcomes("macro AUPRC", terms=ranking_terms(rank_auprc, "positives", both=True), in_table=False,
             in_comparison=False, in_report=False)  # fmt: skip
def auprc_macro(seen: Outcomes) -> Float[np.ndarray, "models"]:
    """Average precision, the mean over both classes where there are two."""
    return seen.mean(seen.ranked, "auprc")


@register("metric")
@of_outcomes("prevalence", higher_is_better=None, in_table=False, in_comparison=False, in_report=False)
def prevalence(seen: Outcomes) -> Float[np.ndarray, "models"]:
    """The AUPRC of a ranking by chance: the (mean) share of its positives."""
    return seen.mean(seen.positives, "prevalence")


@register("metric")
@of_counts("accuracy", kinds=1)
def accuracy(counts: Counts) -> Float[np.ndarray, "tables"]:
    """Share of right decisions (over labels the mean share)."""
    return np.trace(counts, axis1=1, axis2=2) / counts.sum(axis=(1, 2))


def _present(counts: Counts) -> Bool[np.ndarray, "k"]:
    return counts[0].sum(axis=1) > 0


@register("metric")
@of_counts("balanced accuracy", in_comparison=False)
def balanced_accuracy(counts: Counts) -> Float[np.ndarray, "tables"]:
    """Mean recall over the classes; a constant answer reaches 1 / classes.

    Over the classes that are present; of a label (recall + specificity) / 2.
    """
    there = _present(counts)
    hits, support = np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2)
    return (hits[:, there] / support[:, there]).mean(axis=1)


def _f1(counts: Counts) -> Float[np.ndarray, "tables k"]:
    hits, both = np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2) + counts.sum(axis=1)
    return np.divide(2 * hits, both, out=np.zeros(hits.shape), where=both > 0)


@register("metric")
@of_counts("macro F1", of_label=lambda counts: _f1(counts)[:, 1], in_table=False, in_comparison=False)
def f1_macro(counts: Counts) -> Float[np.ndarray, "tables"]:
    """Mean over classes of the harmonic mean of precision and recall.

    Over the classes present, or the labels that can be ranked.
    """
    return _f1(counts)[:, _present(counts)].mean(axis=1)


@register("metric")
@of_counts("MCC", bounds=(-1.0, 1.0), in_table=False, in_comparison=False)
def mcc(counts: Counts) -> Float[np.ndarray, "tables"]:
    """Matthews' coefficient of agreement beyond chance; 0 is chance, 1 is perfect.

    Of many classes R_K of Gorodkin 2004; 0 where all decisions are alike, undefined where all labels are.
    """
    true, said, total = counts.sum(axis=2), counts.sum(axis=1), counts.sum(axis=(1, 2))
    squares = (total**2 - (true**2).sum(axis=1)) * (total**2 - (said**2).sum(axis=1))
    spread = np.sqrt(np.maximum(squares, 0.0))
    covariance = total * np.trace(counts, axis1=1, axis2=2) - (true * said).sum(axis=1)
    undefined = np.where(_present(counts).sum() > 1, 0.0, np.nan)
    # Rounding leaves 1e-6 or so of a spread that is 0 where all decisions are alike.
    return np.divide(covariance, spread, out=np.full(len(counts), undefined), where=spread > 1e-9 * total**2)


@register("metric")
@of_counts("κ", bounds=(-1.0, 1.0), in_table=False, in_comparison=False)
def kappa(counts: Counts) -> Float[np.ndarray, "tables"]:
    """Cohen's coefficient of agreement beyond chance; 0 is chance, 1 is perfect.

    Unweighted; undefined where all labels are alike.
    """
    if _present(counts).sum() < 2:
        return np.full(len(counts), np.nan)
    total, right = counts.sum(axis=(1, 2)), np.trace(counts, axis1=1, axis2=2)
    chance = (counts.sum(axis=2) * counts.sum(axis=1)).sum(axis=1) / total
    return 1 - (total - right) / (total - chance)


@register("metric")
@of_outcomes("ECE", higher_is_better=False)
def ece(seen: Outcomes) -> Float[np.ndarray, "models"]:
    """Expected gap between the confidence of a decision and its accuracy; 0 is best.

    Of the top label, in 15 bins of equal width (see `calibration`).
    """
    return expected_errors(*top_label(seen.probabilities, seen.labels, seen.task))


@register("metric")
@of_errors("Brier", bounds=(0.0, 2.0), in_table=False, in_comparison=False)
def brier(seen: Outcomes) -> Float[np.ndarray, "models examples *labels"]:
    """Mean squared error of the probabilities, 0 to 2: summed over classes (over labels a mean, 0 to 1).

    With two classes it is twice the one-column form; with several labels it is over the known entries.
    """
    if seen.multilabel:
        return (seen.probabilities - seen.labels) ** 2
    return ((seen.probabilities - np.eye(len(seen.class_names))[seen.labels]) ** 2).sum(axis=2)


@register("metric")
@of_errors("loss", bounds=(0.0, np.inf), in_table=False, in_comparison=False)
def loss(seen: Outcomes) -> Float[np.ndarray, "models examples *labels"]:
    """Cross-entropy in nats, unweighted; 0 is best.

    With several labels the binary cross-entropy of the known entries.
    """
    odds = seen.log_odds  # -log p from the odds: no rounding to log 0
    if seen.multilabel:
        return np.logaddexp(0.0, np.where(seen.labels == 1.0, -odds, odds))
    truth = np.broadcast_to(seen.labels, odds.shape[:2])[..., None]
    return np.logaddexp(0.0, -np.take_along_axis(odds, truth, axis=2)[..., 0])


def score(
    labels: Shaped[np.ndarray, "..."],
    logits: Float[np.ndarray, "examples classes"],
    class_names: Sequence[str],
    task: Task,
    threshold: float | Sequence[float] | None = None,
) -> dict[str, Any]:
    """Scores predictions; every value is JSON-ready, and one that is not defined is None.

    Keys: "n" (examples); every registered metric (those of this package are the entries above; with several
    labels a metric is the mean over them, and the loss and Brier the mean over known entries);
    "per_class": name -> recall, precision, f1, auroc, auprc, prevalence, support; and "absent": names that
    cannot be ranked, for want of examples inside or outside the class (for want of a 0 or a 1 among the
    label's known entries). Means over classes leave them out.

    AUROC and AUPRC rank by log odds, which do not tie where probabilities round to 1.

    Args:
        labels: int (N,) or float (N, L) of 0, 1 and NaN (unknown; masked).
        logits: (N, C) or (N, L), unscaled.
        class_names: one a column, all different.
        task: "multiclass" or "multilabel".
        threshold: see `decide`; it moves the decisions, not the rankings and probabilities.

    Raises:
        ValueError: shapes or values that do not fit, logits that are not finite.
    """
    seen = outcomes(labels, np.asarray(logits)[None], task, class_names, threshold)
    per_class = {name: _plain(column, 1)[0] for name, column in seen.per_class.items()}
    return {"n": len(logits), **_scores(seen)[0], "per_class": per_class, "absent": seen.absent}


def score_many(
    labels: Shaped[np.ndarray, "..."],
    logits: Float[np.ndarray, "models examples classes"],
    class_names: Sequence[str],
    task: Task,
) -> list[dict[str, Any]]:
    """The `score` of each of several models' logits for the same examples, without "per_class".

    The models go through NumPy together, so many of them at a time that it holds a few million numbers.

    Raises:
        ValueError: as `score`.
    """
    values, made = np.asarray(logits), []
    together = max(1, AT_ONCE // max(1, values[0].size)) if len(values) else 1
    for start in range(0, len(values), together):
        seen = outcomes(labels, values[start : start + together], task, class_names)
        made += [{"n": values.shape[1], **scores, "absent": seen.absent} for scores in _scores(seen)]
    return made


def _scores(seen: Outcomes) -> list[dict[str, float | None]]:
    """Every registered metric, model by model."""
    return _plain({metric.name: metric.values(seen) for metric in registry.metrics()}, seen.models)


def _plain(figures: Figures, models: int) -> list[dict[str, Any]]:
    """As JSON takes it, model by model."""
    lists = {name: values.tolist() for name, values in figures.items()}
    return [
        {name: None if values[place] != values[place] else values[place] for name, values in lists.items()}
        for place in range(models)
    ]


def confusion(
    labels: Shaped[np.ndarray, "..."],
    logits: Float[np.ndarray, "examples classes"],
    task: Task = "multiclass",
    threshold: float | Sequence[float] | None = None,
) -> Int[np.ndarray, "..."]:
    """Counts, rows true and columns decided: (C, C), or (L, 2, 2) for "multilabel".

    Args and errors are those of `score`; unknown entries are not counted.
    """
    tables = [
        each[0] for each in outcomes(labels, np.asarray(logits)[None], task, threshold=threshold).counts
    ]
    return np.array(tables if task == "multilabel" else tables[0], np.int64)
