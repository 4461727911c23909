"""What scores predictions, for validation and for test alike: of one model, or of many at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ttl_jax.evaluation.calibration import expected_errors, top_label
from ttl_jax.evaluation.probability import (
    Task,
    checked_labels,
    checked_logits,
    decide,
    log_odds,
    probabilities,
)
from ttl_jax.typing import Bool, Float, Int, Shaped

AT_ONCE = 4_000_000  # logits that `score_many` takes at a time; some ten arrays of that size are held


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
    found, columns = _figures(labels, np.asarray(logits)[None], class_names, task, threshold)
    (scores,) = _plain(found, 1)
    per_class = {name: _plain(column, 1)[0] for name, column in columns.items()}
    return {"n": len(logits), **scores, "per_class": per_class, "absent": _absent(columns)}


def score_many(
    labels: Shaped[np.ndarray, "..."],
    logits: Float[np.ndarray, "models examples classes"],
    class_names: Sequence[str],
    task: Task,
) -> list[dict[str, Any]]:
    """What `score` says of each of several models' logits for the same examples, but for "per_class".

    The models go through NumPy together, so many of them at a time that it holds a few million numbers.

    Raises:
        ValueError: as `score`.
    """
    values, found = np.asarray(logits), []
    together = max(1, AT_ONCE // max(1, values[0].size)) if len(values) else 1
    for start in range(0, len(values), together):
        part = values[start : start + together]
        figures, columns = _figures(labels, part, class_names, task, None)
        for scores in _plain(figures, len(part)):
            found.append({"n": values.shape[1], **scores, "absent": _absent(columns)})
    return found


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


Figures = dict[str, np.ndarray]  # name -> (models,), NaN where it is not defined


def _figures(
    labels: Shaped[np.ndarray, "..."],
    logits: Shaped[np.ndarray, "..."],
    class_names: Sequence[str],
    task: Task,
    threshold: float | Sequence[float] | None,
) -> tuple[Figures, dict[str, Figures]]:
    """The figures of each model, over all classes and class by class; logits (models, examples, classes)."""
    values = checked_logits(logits.reshape(math.prod(logits.shape[:2]), *logits.shape[2:]), task)
    shape = (*logits.shape[:2], values.shape[1])  # what goes row by row goes through all models at once
    truth = checked_labels(labels, values.reshape(shape)[0], task)
    names = checked_names(class_names, values)
    flat = probabilities(values, task)
    decisions = decide(flat, task, threshold)
    chances, odds = flat.reshape(shape), log_odds(values, task).reshape(shape)
    find = _multilabel if task == "multilabel" else _multiclass
    found, columns = find(truth, chances, decisions.reshape(shape[:2] + decisions.shape[1:]), odds, names)
    return {**found, "ece": expected_errors(*top_label(chances, truth, task))}, columns


def _multiclass(
    truth: Int[np.ndarray, "n"],
    chances: Float[np.ndarray, "m n c"],
    decisions: Int[np.ndarray, "m n"],
    odds: Float[np.ndarray, "m n c"],
    names: tuple[str, ...],
) -> tuple[Figures, dict[str, Figures]]:
    columns = {
        name: _one_class(truth == place, decisions == place, odds[..., place])
        for place, name in enumerate(names)
    }
    every, ranked = list(columns.values()), _ranked(columns)
    positive = [columns[names[1]]] if len(names) == 2 and ranked else ranked
    of_truth = np.take_along_axis(odds, np.broadcast_to(truth, decisions.shape)[..., None], axis=2)[..., 0]
    return {
        "loss": _over_examples(np.logaddexp(0.0, -of_truth)),  # -log p from the odds: no rounding to log 0
        "accuracy": _over_examples(truth == decisions),
        "balanced_accuracy": _over_classes(every, "recall", decisions),
        "f1_macro": _over_classes(every, "f1", decisions),
        **_agreement(truth, decisions, len(names)),
        **_ranking(ranked, positive, decisions),
        "brier": _over_examples(((chances - np.eye(len(names))[truth]) ** 2).sum(axis=2)),
    }, columns


def _multilabel(
    truth: Float[np.ndarray, "n l"],
    chances: Float[np.ndarray, "m n l"],
    decisions: Int[np.ndarray, "m n l"],
    odds: Float[np.ndarray, "m n l"],
    names: tuple[str, ...],
) -> tuple[Figures, dict[str, Figures]]:
    columns: dict[str, Figures] = {}
    by_label: list[Figures] = []
    for place, name in enumerate(names):
        known = ~np.isnan(truth[:, place])
        true, said = truth[known, place] == 1.0, decisions[:, known, place] == 1
        column = columns[name] = _one_class(true, said, odds[:, known, place])
        specificity = _over_examples(~said[:, ~true])
        agreement = _agreement(true.astype(np.int64), said.astype(np.int64), 2)
        balanced = (column["recall"] + specificity) / 2  # NaN where a side is missing
        by_label.append({"accuracy": _over_examples(true == said), "balanced": balanced, **agreement})
    known, ranked = ~np.isnan(truth), _ranked(columns)
    nats = np.logaddexp(0.0, np.where(truth == 1.0, -odds, odds))
    return {
        "loss": _over_examples(nats[:, known]),
        "accuracy": _over_classes(by_label, "accuracy", decisions),
        "balanced_accuracy": _over_classes(by_label, "balanced", decisions),
        "f1_macro": _over_classes(ranked, "f1", decisions),
        "mcc": _over_classes(by_label, "mcc", decisions),
        "kappa": _over_classes(by_label, "kappa", decisions),
        **_ranking(ranked, ranked, decisions),
        "brier": _over_examples(((chances - truth) ** 2)[:, known]),
    }, columns


def _one_class(
    truth: Bool[np.ndarray, "n"], decided: Bool[np.ndarray, "m n"], odds: Float[np.ndarray, "m n"]
) -> Figures:
    support, said, total = int(truth.sum()), decided.sum(axis=1), len(truth)
    hits, undefined = decided[:, truth].sum(axis=1), np.full(len(decided), np.nan)
    auroc, auprc = ranking_scores(truth, odds) if 0 < support < total else (undefined, undefined)
    return {
        "recall": hits / support if support else undefined,
        "precision": np.divide(hits, said, out=undefined.copy(), where=said > 0),
        "f1": 2 * hits / (support + said) if support else undefined,
        "auroc": auroc,
        "auprc": auprc,
        "prevalence": np.full(len(decided), support / total) if total else undefined,
        "support": np.full(len(decided), support),
    }


def ranking_scores(
    truth: Bool[np.ndarray, "n"], ranks: Float[np.ndarray, "m n"]
) -> tuple[Float[np.ndarray, "m"], Float[np.ndarray, "m"]]:
    """AUROC, ties counting half, and step-wise average precision of each row; truth must hold both kinds."""
    count, support = len(truth), int(truth.sum())
    order = np.argsort(ranks, axis=1)[:, ::-1]
    falling, found = np.take_along_axis(ranks, order, axis=1), np.cumsum(truth[order], axis=1)
    said = np.arange(1, count + 1)
    ends = np.ones(ranks.shape, bool)  # the last example of those that tie
    ends[:, :-1] = falling[:, 1:] != falling[:, :-1]

    def before(counts: Int[np.ndarray, "m n"]) -> Int[np.ndarray, "m n"]:
        """The count at the end of the tie before."""
        kept = np.maximum.accumulate(np.where(ends, counts, 0), axis=1)
        return np.concatenate([np.zeros_like(kept[:, :1]), kept[:, :-1]], axis=1)

    found_before, missed = before(found), said - found
    pairs = np.where(ends, (missed - before(missed)) * (found + found_before), 0).sum(axis=1)  # twice them
    precision = np.where(ends, (found - found_before) * (found / said), 0.0).sum(axis=1)
    return pairs / (2 * support * (count - support)), precision / support


def _agreement(truth: Int[np.ndarray, "n"], decided: Int[np.ndarray, "m n"], classes: int) -> Figures:
    """Matthews' R_K and Cohen's kappa, from how often each class is true, is decided, and is both."""
    models, count = decided.shape
    true = np.bincount(truth, minlength=classes)
    if (true > 0).sum() < 2:
        return dict.fromkeys(("mcc", "kappa"), np.full(models, np.nan))
    numbers = (decided + classes * np.arange(models)[:, None]).ravel()
    said = np.bincount(numbers, minlength=models * classes).reshape(models, classes)
    right, chance = (truth == decided).sum(axis=1), said @ true
    spread = np.sqrt(float(count**2 - true @ true) * (count**2 - (said**2).sum(axis=1)))
    covariance = (right * count - chance).astype(np.float64)
    return {
        "mcc": np.divide(covariance, spread, out=np.zeros(models), where=spread > 0),
        "kappa": 1 - (count - right) / (count - chance / count),
    }


def _ranking(ranked: Sequence[Figures], positive: Sequence[Figures], decisions: np.ndarray) -> Figures:
    return {
        "auroc": _over_classes(positive, "auroc", decisions),
        "auprc": _over_classes(positive, "auprc", decisions),
        "auprc_macro": _over_classes(ranked, "auprc", decisions),
        "prevalence": _over_classes(positive, "prevalence", decisions),
    }


def _can_rank(column: Figures) -> bool:
    return not np.isnan(column["auroc"]).any()


def _ranked(columns: dict[str, Figures]) -> list[Figures]:
    return [column for column in columns.values() if _can_rank(column)]


def _absent(columns: dict[str, Figures]) -> list[str]:
    return [name for name, column in columns.items() if not _can_rank(column)]


def _over_examples(values: Shaped[np.ndarray, "m n"]) -> Float[np.ndarray, "m"]:
    return values.mean(axis=1) if values.shape[1] else np.full(len(values), np.nan)


def _over_classes(columns: Sequence[Figures], name: str, like: np.ndarray) -> Float[np.ndarray, "m"]:
    """The mean over the classes where it is defined, which is a matter of the labels alone."""
    defined = [column[name] for column in columns if not np.isnan(column[name]).any()]
    return np.mean(defined, axis=0) if defined else np.full(len(like), np.nan)


def _plain(figures: Figures, models: int) -> list[dict[str, Any]]:
    """As JSON takes it, model by model."""
    lists = {name: values.tolist() for name, values in figures.items()}
    return [
        {name: None if values[place] != values[place] else values[place] for name, values in lists.items()}
        for place in range(models)
    ]
