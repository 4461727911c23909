"""Predictions beside the truth: what every metric is a function of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

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

Figures = dict[str, Float[np.ndarray, "models"]]  # name -> a value a model, NaN where it is undefined


@dataclass(frozen=True)
class Outcomes:
    """The predictions of M models for the same N examples, and the truth; built by `outcomes`.

    Whatever is asked for is computed once, for all models together.

    Attributes:
        labels: int (N,) class indices, or float (N, L) of 0, 1 and NaN (unknown).
        logits: float64 (M, N, C), unscaled.
        task: "multiclass" or "multilabel" (C is then L).
        class_names: C of them.
        threshold: probability from which a class is decided on, see `probability.decide`.
    """

    labels: Shaped[np.ndarray, "..."]
    logits: Float[np.ndarray, "models examples classes"]
    task: Task
    class_names: tuple[str, ...]
    threshold: float | Sequence[float] | None = None

    @property
    def models(self) -> int:
        """M."""
        return len(self.logits)

    @property
    def multilabel(self) -> bool:
        """The labels are a table of 0, 1 and NaN."""
        return self.task == "multilabel"

    @cached_property
    def known(self) -> Bool[np.ndarray, "examples labels"]:
        """The entries of a table of labels that are not NaN."""
        return ~np.isnan(self.labels)

    @cached_property
    def probabilities(self) -> Float[np.ndarray, "models examples classes"]:
        """Softmax over the classes, or a sigmoid a label."""
        return probabilities(self._flat, self.task).reshape(self.logits.shape)

    @cached_property
    def log_odds(self) -> Float[np.ndarray, "models examples classes"]:
        """Log odds of every class against the rest: they do not tie where probabilities round to 1."""
        return log_odds(self._flat, self.task).reshape(self.logits.shape)

    @cached_property
    def decisions(self) -> Int[np.ndarray, "models examples *labels"]:
        """Class indices (M, N), or 0 and 1 (M, N, L)."""
        chances = self.probabilities.reshape(self._flat.shape)
        decided = decide(chances, self.task, self.threshold)
        return decided.reshape(self.logits.shape[:2] + decided.shape[1:])

    @cached_property
    def counts(self) -> tuple[Float[np.ndarray, "models k k"], ...]:
        """Confusion counts, rows true and columns decided: one table of all classes, or one a label."""
        if not self.multilabel:
            return (_counts(self.labels, self.decisions, self.logits.shape[2]),)
        return tuple(
            _counts(self.labels[known, place].astype(np.int64), self.decisions[:, known, place], 2)
            for place, known in enumerate(self.known.T)
        )

    def one_against_rest(self) -> Iterator[tuple[int, Bool[np.ndarray, "examples"], Bool[np.ndarray, "k"]]]:
        """Column by column: its index, the examples where the answer is known, and the answer for these."""
        everyone = np.ones(len(self.labels), bool)
        for place in range(self.logits.shape[2]):
            known = self.known[:, place] if self.multilabel else everyone
            yield place, known, self.labels[known, place] == 1 if self.multilabel else self.labels == place

    @cached_property
    def per_class(self) -> dict[str, Figures]:
        """Recall, precision, F1, AUROC, AUPRC, prevalence and support of each class against the rest."""
        columns = {}
        for place, known, truth in self.one_against_rest():
            said = self.decisions[:, known, place] == 1 if self.multilabel else self.decisions == place
            columns[self.class_names[place]] = _one_class(truth, said, self.log_odds[:, known, place])
        return columns

    @cached_property
    def ranked(self) -> tuple[Figures, ...]:
        """Those of `per_class` that can be ranked: with examples inside and outside of the class."""
        return tuple(column for column in self.per_class.values() if not np.isnan(column["auroc"]).any())

    @property
    def positives(self) -> tuple[Figures, ...]:
        """`ranked`; of two exclusive classes the second alone."""
        if self.multilabel or len(self.class_names) != 2 or not self.ranked:
            return self.ranked
        return (self.per_class[self.class_names[1]],)

    @property
    def absent(self) -> list[str]:
        """Names of the classes that cannot be ranked."""
        return [name for name, column in self.per_class.items() if np.isnan(column["auroc"]).any()]

    @property
    def undefined(self) -> Float[np.ndarray, "models"]:
        """NaN for each model."""
        return np.full(self.models, np.nan)

    def mean(self, columns: Sequence[Figures], name: str) -> Float[np.ndarray, "models"]:
        """The mean of a figure over those columns where it is defined: a matter of the labels alone."""
        defined = [column[name] for column in columns if not np.isnan(column[name]).any()]
        return np.mean(defined, axis=0) if defined else self.undefined

    @property
    def _flat(self) -> Float[np.ndarray, "rows classes"]:
        """The rows of all models as one table, for functions that go row by row."""
        return self.logits.reshape(math.prod(self.logits.shape[:2]), self.logits.shape[2])


def outcomes(
    labels: Shaped[np.ndarray, "..."],
    logits: Float[np.ndarray, "models examples classes"],
    task: Task,
    class_names: Sequence[str] | None = None,
    threshold: float | Sequence[float] | None = None,
) -> Outcomes:
    """Checks labels and logits, and puts them together.

    Args:
        labels: int (N,) class indices, or float (N, L) of 0, 1 and NaN (unknown).
        logits: (M, N, C) or (M, N, L) of several models for the same examples.
        task: "multiclass" or "multilabel".
        class_names: one a column, all different; None numbers them.
        threshold: see `probability.decide`; it moves decisions, not rankings and probabilities.

    Raises:
        ValueError: shapes or values that do not fit, logits that are not finite.
    """
    values = np.asarray(logits)
    flat = checked_logits(values.reshape(math.prod(values.shape[:2]), *values.shape[2:]), task)
    made = flat.reshape(*values.shape[:2], flat.shape[1])
    truth = checked_labels(labels, made[0] if len(made) else flat, task)
    wanted = range(flat.shape[1]) if class_names is None else class_names
    return Outcomes(truth, made, task, checked_names(wanted, flat), threshold)  # type: ignore[arg-type]


def checked_names(class_names: Sequence[str], logits: Float[np.ndarray, "n c"]) -> tuple[str, ...]:
    """The class names as a tuple.

    Raises:
        ValueError: they do not fit the logits.
    """
    names = tuple(str(name) for name in class_names)
    if len(names) != logits.shape[1] or len(set(names)) != len(names):
        raise ValueError(f"{logits.shape[1]} different class names are needed, not {names}")
    return names


def _counts(
    truth: Int[np.ndarray, "k"], decided: Int[np.ndarray, "models k"], classes: int
) -> Float[np.ndarray, "models c c"]:
    models = len(decided)
    cells = decided + classes * truth + classes**2 * np.arange(models)[:, None]
    counts = np.bincount(cells.ravel(), minlength=models * classes**2)
    return counts.reshape(models, classes, classes).astype(np.float64)


def _one_class(
    truth: Bool[np.ndarray, "k"], decided: Bool[np.ndarray, "models k"], odds: Float[np.ndarray, "models k"]
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
    """AUROC, ties counting half, and step-wise average precision of each row.

    Args:
        truth: at least one True and one False.
        ranks: scores of M models, higher for examples more likely True.
    """
    count, support = len(truth), int(truth.sum())
    order = np.argsort(ranks, axis=1)[:, ::-1]
    falling, hits = np.take_along_axis(ranks, order, axis=1), np.cumsum(truth[order], axis=1)
    said = np.arange(1, count + 1)
    ends = np.ones(ranks.shape, bool)  # the last example of those that tie
    ends[:, :-1] = falling[:, 1:] != falling[:, :-1]

    def before(counts: Int[np.ndarray, "m n"]) -> Int[np.ndarray, "m n"]:
        """The count at the end of the tie before."""
        kept = np.maximum.accumulate(np.where(ends, counts, 0), axis=1)
        return np.concatenate([np.zeros_like(kept[:, :1]), kept[:, :-1]], axis=1)

    hits_before, missed = before(hits), said - hits
    pairs = np.where(ends, (missed - before(missed)) * (hits + hits_before), 0).sum(axis=1)  # twice them
    precision = np.where(ends, (hits - hits_before) * (hits / said), 0.0).sum(axis=1)
    return pairs / (2 * support * (count - support)), precision / support
