"""What each example does to a figure: its influence, from which a clustered variance follows.

The influence of example i is the derivative of the figure by the weight of i, at equal weights. The
figure of another sample of patients differs by about the sum of the influences drawn, so that its
variance is that of the patients' sums (the infinitesimal jackknife; Efron 1982, chapter 6): for AUROC
DeLong's, with patients the form of Obuchowski 1997 (Biometrics 53:567).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ttl_jax.evaluation.influence import parts_of
from ttl_jax.evaluation.probability import Task, checked_labels, checked_logits, log_odds, probabilities
from ttl_jax.typing import Bool, Float, Shaped

METRICS = (
    "auroc", "auprc", "auprc_macro", "accuracy", "balanced_accuracy", "f1_macro", "mcc", "kappa", "brier",
    "loss",
)  # fmt: skip


@dataclass(frozen=True)
class Linearised:
    """A figure, what each of the N examples does to it, and what it is a mean over.

    classes: of each part of the figure (a class, a label) the examples that it speaks of: (positives,
    negatives) for a ranking, (positives,) for a recall or a precision, (all,) for a share of all.
    """

    estimate: float
    values: Float[np.ndarray, "n"]
    classes: tuple[tuple[Bool[np.ndarray, "n"], ...], ...]


def linearise(
    labels: Shaped[np.ndarray, "..."],
    logits: Float[np.ndarray, "examples classes"],
    metric: str,
    task: Task = "multiclass",
) -> Linearised | None:
    """The influence of each example on a figure that is defined as `score` defines it.

    Args:
        labels: as in `score`.
        logits: as in `score`.
        metric: one of `METRICS`.
        task: "multiclass" or "multilabel".

    Returns:
        None where the figure is not defined.

    Raises:
        ValueError: a metric that is not known, shapes or values that do not fit.
    """
    if metric not in METRICS:
        raise ValueError(f"metric is one of {', '.join(METRICS)}, not {metric!r}")
    values = checked_logits(logits, task)
    truth = checked_labels(labels, values, task)
    if not len(values):
        return None
    if metric in ("brier", "loss"):
        return _errors(truth, values, metric, task)
    figures, moved, classes = [], [], []
    for about, seen, true, said in parts_of(truth, values[None], metric, task):
        figure, each = about(true, said)
        if np.isfinite(figure[0]):
            figures.append(figure[0])
            moved.append(_over(seen, each[0], 0.0))
            classes += [tuple(_over(seen, one, False) for one in part) for part in _classes(true, metric)]
    if not figures:
        return None
    return Linearised(float(np.mean(figures)), np.mean(moved, axis=0), tuple(classes))


def _classes(true: Shaped[np.ndarray, "k"], metric: str) -> list[tuple[Bool[np.ndarray, "k"], ...]]:
    """`Linearised.classes` of one part; true: bool of a ranking, classes of decisions."""
    if metric == "auroc":
        return [(true, ~true)]
    if metric in ("auprc", "auprc_macro"):
        return [(true,)]
    if metric == "accuracy":
        return [(np.ones(len(true), bool),)]
    return [(true == kind,) for kind in np.unique(true)]


def _over(seen: Bool[np.ndarray, "n"], values: Shaped[np.ndarray, "k"], other: Any) -> np.ndarray:
    """The values of the examples that are seen, `other` for the rest."""
    whole = np.full(len(seen), other)
    whole[seen] = values
    return whole


def _errors(truth: np.ndarray, logits: np.ndarray, metric: str, task: Task) -> Linearised | None:
    """A mean over examples, or over the known entries of a table of labels (a ratio of two sums)."""
    if task == "multilabel":
        known = ~np.isnan(truth)
        if not known.any():
            return None
        right = np.where(known, truth, 0.0)
        chances = probabilities(logits, task)
        each = (chances - right) ** 2 if metric == "brier" else np.logaddexp(0, logits) - right * logits
        mean = float(each[known].mean())
        values = np.where(known, each - mean, 0.0).sum(axis=1) / known.sum()
        return Linearised(mean, values, ((known.any(axis=1),),))
    rows = np.arange(len(truth))
    if metric == "brier":
        each = ((probabilities(logits, task) - np.eye(logits.shape[1])[truth]) ** 2).sum(axis=1)
    else:
        each = np.logaddexp(0.0, -log_odds(logits, task)[rows, truth])
    everyone = np.ones(len(each), bool)
    return Linearised(float(each.mean()), (each - each.mean()) / len(each), ((everyone,),))
