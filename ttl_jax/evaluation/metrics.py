"""One function that scores a set of predictions, for validation and for test alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ttl_jax.evaluation.calibration import calibration
from ttl_jax.evaluation.probability import (
    Task,
    checked_labels,
    checked_logits,
    decide,
    log_odds,
    probabilities,
)
from ttl_jax.typing import Bool, Float, Int, Shaped


def score(
    labels: Shaped[np.ndarray, "..."],
    logits: Float[np.ndarray, "examples classes"],
    class_names: Sequence[str],
    task: Task,
    threshold: float | Sequence[float] | None = None,
) -> dict[str, Any]:
    """Scores predictions; every value is JSON-ready, and one that is not defined is None.

    Keys, for "multiclass" (and what "multilabel" makes of them):
        n: examples.
        loss: mean cross-entropy in nats, unweighted (BCE over the known entries).
        accuracy: share of right decisions (mean over labels of each label's share).
        balanced_accuracy: mean recall over the classes present (mean over labels of
            (recall + specificity) / 2).
        f1_macro: mean F1 over the classes present (over labels).
        mcc: Matthews' coefficient, with many classes R_K of Gorodkin 2004 (mean over labels);
            0 where all decisions are alike, None where all labels are.
        kappa: Cohen's, unweighted (mean over labels); None where all labels are alike.
        auroc: two classes: class index 1 against 0; more: mean one-versus-rest over the classes
            present (mean over labels).
        auprc: average precision, step-wise and not interpolated; two classes: of class index 1;
            more: mean one-versus-rest over the classes present (mean over labels).
        auprc_macro: that mean with two classes too.
        prevalence: what auprc is for a ranking by chance: the share of class index 1 with two
            classes, else the mean share over the same classes (labels) as auprc.
        ece: top-label calibration error, 15 bins of equal width (see calibration).
        brier: mean over examples of sum over classes of (p - y)^2, from 0 to 2: with two classes
            twice the one-column form (mean over the known entries of (p - y)^2, from 0 to 1).
        per_class: name -> recall, precision, f1, auroc, auprc, prevalence, support.
        absent: names that cannot be ranked, for want of examples inside or outside the class (for
            want of a 0 or a 1 among the label's known entries). The means above leave them out.

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
    values = checked_logits(logits, task)
    truth = checked_labels(labels, values, task)
    names = checked_names(class_names, values)
    chances = probabilities(values, task)
    decisions = decide(chances, task, threshold)
    odds = log_odds(values, task)
    head = {"n": len(values)}
    if task == "multilabel":
        found = _multilabel(truth, chances, decisions, odds, names)
    else:
        found = _multiclass(truth, chances, decisions, odds, names)
    # -log p of what was true, from the odds: no rounding to log 0
    nats = np.logaddexp(0.0, -odds)
    if task == "multilabel":
        nats = np.where(truth == 1.0, nats, np.logaddexp(0.0, odds))[~np.isnan(truth)]
    else:
        nats = np.take_along_axis(nats, truth[:, None], axis=1)
    return {
        **head,
        "loss": _mean(nats.ravel()),
        **found,
        "ece": calibration(truth, values, task).ece,
    }


def confusion(
    labels: Shaped[np.ndarray, "..."],
    logits: Float[np.ndarray, "examples classes"],
    task: Task = "multiclass",
    threshold: float | Sequence[float] | None = None,
) -> Int[np.ndarray, "..."]:
    """Counts, rows true and columns decided: (C, C), or (L, 2, 2) for "multilabel".

    Args and errors are those of `score`; unknown entries are not counted.
    """
    from sklearn.metrics import confusion_matrix

    values = checked_logits(logits, task)
    truth = checked_labels(labels, values, task)
    decisions = decide(probabilities(values, task), task, threshold)
    if task == "multiclass":
        if not len(values):
            return np.zeros((values.shape[1],) * 2, dtype=np.int64)
        return confusion_matrix(truth, decisions, labels=np.arange(values.shape[1]))
    counts = np.zeros((values.shape[1], 2, 2), dtype=np.int64)
    for column in range(values.shape[1]):
        known = ~np.isnan(truth[:, column])
        if known.any():
            counts[column] = confusion_matrix(truth[known, column], decisions[known, column], labels=[0, 1])
    return counts


def checked_names(class_names: Sequence[str], logits: Float[np.ndarray, "n c"]) -> tuple[str, ...]:
    """The class names as a tuple, or a ValueError if they do not fit the logits."""
    names = tuple(str(name) for name in class_names)
    if len(names) != logits.shape[1] or len(set(names)) != len(names):
        raise ValueError(f"{logits.shape[1]} different class names are needed, not {names}")
    return names


def _multiclass(
    truth: Int[np.ndarray, "n"],
    chances: Float[np.ndarray, "n c"],
    decisions: Int[np.ndarray, "n"],
    odds: Float[np.ndarray, "n c"],
    names: tuple[str, ...],
) -> dict[str, Any]:
    per_class = {
        name: _one_class(truth == place, decisions == place, odds[:, place])
        for place, name in enumerate(names)
    }
    one_hot = np.eye(len(names))[truth]
    ranked = [entry for entry in per_class.values() if entry["auroc"] is not None]
    positive = [per_class[names[1]]] if len(names) == 2 and ranked else ranked
    return {
        "accuracy": _mean(truth == decisions),
        "balanced_accuracy": _mean(entry["recall"] for entry in per_class.values()),
        "f1_macro": _mean(entry["f1"] for entry in per_class.values()),
        **_agreement(truth, decisions),
        **_ranking(ranked, positive),
        "brier": _mean(((chances - one_hot) ** 2).sum(axis=1)),
        "per_class": per_class,
        "absent": _absent(per_class),
    }


def _multilabel(
    truth: Float[np.ndarray, "n l"],
    chances: Float[np.ndarray, "n l"],
    decisions: Int[np.ndarray, "n l"],
    odds: Float[np.ndarray, "n l"],
    names: tuple[str, ...],
) -> dict[str, Any]:
    per_class, accuracy, balanced, agreements = {}, [], [], []
    for column, name in enumerate(names):
        known = ~np.isnan(truth[:, column])
        true, said = truth[known, column] == 1.0, decisions[known, column] == 1
        entry = _one_class(true, said, odds[known, column])
        per_class[name] = entry
        accuracy.append(_mean(true == said))
        if entry["auroc"] is not None:
            balanced.append((np.mean(said[true]) + np.mean(~said[~true])) / 2)
            agreements.append(_agreement(true, said))
    ranked = [entry for entry in per_class.values() if entry["auroc"] is not None]
    return {
        "accuracy": _mean(accuracy),
        "balanced_accuracy": _mean(balanced),
        "f1_macro": _mean(entry["f1"] for entry in ranked),
        "mcc": _mean(each["mcc"] for each in agreements),
        "kappa": _mean(each["kappa"] for each in agreements),
        **_ranking(ranked, ranked),
        "brier": _mean(((chances - truth) ** 2)[~np.isnan(truth)]),
        "per_class": per_class,
        "absent": _absent(per_class),
    }


def _one_class(
    truth: Bool[np.ndarray, "n"], decided: Bool[np.ndarray, "n"], odds: Float[np.ndarray, "n"]
) -> dict[str, float | int | None]:
    from scipy.stats import rankdata
    from sklearn.metrics import average_precision_score

    support, said, total = int(truth.sum()), int(decided.sum()), len(truth)
    both, hits = 0 < support < total, int((truth & decided).sum())
    auroc = None
    if both:  # Mann and Whitney's; scikit-learn's functions take minutes for a thousand classes
        above = float(rankdata(odds)[truth].sum()) - support * (support + 1) / 2
        auroc = above / (support * (total - support))
    return {
        "recall": hits / support if support else None,
        "precision": hits / said if said else None,
        "f1": 2 * hits / (support + said) if support else None,
        "auroc": auroc,
        "auprc": _plain(average_precision_score(truth, odds)) if both else None,
        "prevalence": support / total if total else None,
        "support": support,
    }


def _agreement(truth: Shaped[np.ndarray, "n"], decided: Shaped[np.ndarray, "n"]) -> dict[str, float | None]:
    from sklearn.metrics import cohen_kappa_score, matthews_corrcoef

    if len(np.unique(truth)) < 2:
        return {"mcc": None, "kappa": None}
    return {
        "mcc": _plain(matthews_corrcoef(truth, decided)),
        "kappa": _plain(cohen_kappa_score(truth, decided)),
    }


def _ranking(ranked: Sequence[dict], positive: Sequence[dict]) -> dict[str, float | None]:
    return {
        "auroc": _mean(entry["auroc"] for entry in positive),
        "auprc": _mean(entry["auprc"] for entry in positive),
        "auprc_macro": _mean(entry["auprc"] for entry in ranked),
        "prevalence": _mean(entry["prevalence"] for entry in positive),
    }


def _absent(per_class: dict[str, dict]) -> list[str]:
    return [name for name, entry in per_class.items() if entry["auroc"] is None]


def _mean(values: Iterable[Any]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _plain(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
