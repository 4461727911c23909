"""What each example does to a figure: its influence, from which a clustered variance follows.

The influence of example i is the derivative of the figure by the weight of i, at equal weights. The
figure of another sample of patients differs by about the sum of the influences drawn, so that its
variance is that of the patients' sums (the infinitesimal jackknife; Efron 1982, chapter 6): for AUROC
DeLong's, with patients the form of Obuchowski 1997 (Biometrics 53:567).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    if metric in ("auroc", "auprc", "auprc_macro"):
        return _ranking(truth, log_odds(values, task), metric, task)
    if metric in ("brier", "loss"):
        return _errors(truth, values, metric, task)
    return _decisions(truth, decide(probabilities(values, task), task), values.shape[1], metric, task)


def linear_auroc(truth: Bool[np.ndarray, "n"], ranks: Float[np.ndarray, "n"]) -> Linearised | None:
    """AUROC, ties counting half: the structural components of DeLong et al. 1988, less their mean."""
    from scipy import stats

    ups, downs = int(truth.sum()), int((~truth).sum())
    if not ups or not downs:
        return None
    whole = stats.rankdata(ranks)
    values = np.empty(len(ranks))
    above = (whole[truth] - stats.rankdata(ranks[truth])) / downs
    auroc = float(above.mean())
    values[truth] = (above - auroc) / ups
    values[~truth] = (1.0 - (whole[~truth] - stats.rankdata(ranks[~truth])) / ups - auroc) / downs
    return Linearised(auroc, values, ((truth, ~truth),))


def linear_auprc(truth: Bool[np.ndarray, "n"], ranks: Float[np.ndarray, "n"]) -> Linearised | None:
    """Average precision, step-wise, those that tie taken together.

    AP = mean over positives i of P_i = TP_i / N_i, counts of what ranks at least as high. Its derivative
    by the weight of k is (P_k - AP) / m, if k is positive, plus the mean over the positives i that rank
    no higher than k of (FP_i if k is positive, else -TP_i) / N_i^2.
    """
    ups = int(truth.sum())
    if not ups or ups == len(truth):
        return None
    order = np.argsort(-ranks, kind="stable")
    falling, said = ranks[order], truth[order].astype(np.float64)
    ends = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
    tie = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=-1))
    hits, every = np.cumsum(said)[ends], ends + 1.0
    precision = hits / every
    found = np.bincount(tie, weights=said)  # positives of each tie
    ap = float((found * precision).sum() / ups)

    def below(values: np.ndarray) -> np.ndarray:
        """Summed over the ties that rank no higher."""
        return np.cumsum(values[::-1])[::-1]

    up = below(found * (every - hits) / every**2) / ups
    down = below(found * hits / every**2) / ups
    values = np.empty(len(ranks))
    values[order] = np.where(said == 1, (precision[tie] - ap) / ups + up[tie], -down[tie])
    return Linearised(ap, values, ((truth,),))


def _ranking(truth: np.ndarray, odds: np.ndarray, metric: str, task: Task) -> Linearised | None:
    one = linear_auroc if metric == "auroc" else linear_auprc
    if task == "multilabel":
        return _mean([_known(truth[:, place], odds[:, place], one) for place in range(odds.shape[1])])
    places = [1] if odds.shape[1] == 2 and metric != "auprc_macro" else range(odds.shape[1])
    return _mean([one(truth == place, odds[:, place]) for place in places])


def _known(
    truth: Float[np.ndarray, "n"],
    values: np.ndarray,
    one: Callable[[Bool[np.ndarray, "k"], np.ndarray], Linearised | None],
) -> Linearised | None:
    """The influence over the known entries of a label, 0 for the others."""
    known = ~np.isnan(truth)
    found = one(truth[known] == 1, values[known])
    if found is None:
        return None
    whole = np.zeros(len(truth))
    whole[known] = found.values

    def spread(members: np.ndarray) -> np.ndarray:
        out = np.zeros(len(truth), bool)
        out[known] = members
        return out

    classes = tuple(tuple(spread(part) for part in parts) for parts in found.classes)
    return Linearised(found.estimate, whole, classes)


def _mean(parts: Sequence[Linearised | None]) -> Linearised | None:
    """Of the parts (classes, labels) where the figure is defined."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    return Linearised(
        float(np.mean([part.estimate for part in known])),
        np.mean([part.values for part in known], axis=0),
        tuple(each for part in known for each in part.classes),
    )


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


def _decisions(
    truth: np.ndarray, decided: np.ndarray, classes: int, metric: str, task: Task
) -> Linearised | None:
    if task != "multilabel":
        return _of_table(truth, decided, classes, _MULTICLASS[metric], metric)

    def one(true: np.ndarray, said: np.ndarray) -> Linearised | None:
        if not len(true) or (metric != "accuracy" and (true.all() or not true.any())):
            return None
        return _of_table(true.astype(np.int64), said, 2, _MULTILABEL[metric], metric)

    return _mean([_known(truth[:, place], decided[:, place], one) for place in range(classes)])


Table = Float[np.ndarray, "true decided"]


def _of_table(
    truth: Int[np.ndarray, "n"],
    decided: Int[np.ndarray, "n"],
    classes: int,
    figure: Callable[[Table], float],
    metric: str,
) -> Linearised | None:
    """Of a figure that is a function of the table of shares: the derivative by its cells, numerically."""
    cell = truth * classes + decided
    shares = np.bincount(cell, minlength=classes**2).reshape(classes, classes) / len(truth)
    estimate = figure(shares)
    if not np.isfinite(estimate):
        return None
    slope, step = np.zeros(classes**2), 1e-6
    for place in np.unique(cell):
        moved = np.zeros((classes, classes))
        moved.flat[place] = step
        # weights are taken relative: the derivative at a sum that stays 1
        up, down = (figure((shares + sign * moved) / (1 + sign * step)) for sign in (1, -1))
        slope[place] = (up - down) / (2 * step)
    present = [place for place in range(classes) if (truth == place).any()]
    parts = [np.ones(len(truth), bool)] if metric == "accuracy" else [truth == place for place in present]
    return Linearised(float(estimate), slope[cell] / len(truth), tuple((part,) for part in parts))


def _recalls(table: Table) -> np.ndarray:
    there = table.sum(axis=1) > 0
    return np.diag(table)[there] / table.sum(axis=1)[there]


def _f1s(table: Table) -> np.ndarray:
    there = table.sum(axis=1) > 0
    return 2 * np.diag(table)[there] / (table.sum(axis=1) + table.sum(axis=0))[there]


def _mcc(table: Table) -> float:
    """Gorodkin 2004; 0 where all decisions are alike, NaN where all labels are."""
    true, said = table.sum(axis=1), table.sum(axis=0)
    if 1 - true @ true < 1e-12:
        return np.nan
    spread = float(np.sqrt((1 - true @ true) * (1 - said @ said))) if 1 - said @ said > 1e-12 else 0.0
    return float(np.trace(table) - true @ said) / spread if spread else 0.0


def _kappa(table: Table) -> float:
    true, said = table.sum(axis=1), table.sum(axis=0)
    if 1 - true @ true < 1e-12:
        return np.nan
    return float(1 - (1 - np.trace(table)) / (1 - true @ said))


_MULTICLASS: dict[str, Callable[[Table], float]] = {
    "accuracy": lambda table: float(np.trace(table)),
    "balanced_accuracy": lambda table: float(_recalls(table).mean()),
    "f1_macro": lambda table: float(_f1s(table).mean()),
    "mcc": _mcc,
    "kappa": _kappa,
}
_MULTILABEL = _MULTICLASS | {"f1_macro": lambda table: float(_f1s(table)[-1])}
