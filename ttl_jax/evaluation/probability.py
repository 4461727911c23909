"""From logits to probabilities, rankings and decisions, for either form of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ttl_jax.typing import Float, Int, Shaped

Task = Literal["multiclass", "multilabel"]


def probabilities(
    logits: Float[np.ndarray, "examples classes"], task: Task
) -> Float[np.ndarray, "examples classes"]:
    """Softmax over the classes ("multiclass") or a sigmoid a label ("multilabel"), in float64.

    Raises:
        ValueError: an unknown task, logits that are not (examples, classes) or not finite.
    """
    values = checked_logits(logits, task)
    if task == "multilabel":
        return np.exp(-np.logaddexp(0.0, -values))
    return np.exp(values - _logsumexp(values))


def log_odds(
    logits: Float[np.ndarray, "examples classes"], task: Task
) -> Float[np.ndarray, "examples classes"]:
    """log p / (1 - p) for every class against the rest: ranks as the probabilities do.

    Probabilities of a confident network round to exactly 1 and tie, which moves AUROC and average
    precision; the log odds do not round.
    """
    values = checked_logits(logits, task)
    if task == "multilabel" or values.shape[0] == 0:
        return values
    if values.shape[1] == 2:
        return values - values[:, ::-1]
    # log(1 - p) is exact as log1p(-p) except where p is near 1, which only the top class can be:
    # there the other classes are summed afresh.
    log_p = values - _logsumexp(values)
    rows, top = np.arange(len(values)), values.argmax(axis=1)
    others = values.copy()
    others[rows, top] = -np.inf
    odds = np.empty_like(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        odds[:] = log_p - np.log1p(-np.exp(log_p))
        odds[rows, top] = values[rows, top] - _logsumexp(others)[:, 0]
    return odds


def decide(
    chances: Float[np.ndarray, "examples classes"],
    task: Task,
    threshold: float | Sequence[float] | None = None,
) -> Int[np.ndarray, "..."]:
    """Class indices (examples,) for "multiclass"; 0/1 (examples, labels) for "multilabel".

    Args:
        chances: probabilities.
        task: the form of the labels.
        threshold: "multilabel": the probability from which a label is said to be present, one or
            one a label (None: 0.5). Two classes: the same for class index 1 (None: the likelier
            class). More than two classes take no threshold.

    Raises:
        ValueError: a threshold where none has a meaning.
    """
    if task == "multilabel":
        return (chances >= np.asarray(0.5 if threshold is None else threshold)).astype(np.int64)
    if threshold is None:
        return chances.argmax(axis=1)
    if chances.shape[1] != 2 or np.ndim(threshold) != 0:
        raise ValueError(f"one threshold has a meaning for two classes only, not for {chances.shape[1]}")
    return (chances[:, 1] >= threshold).astype(np.int64)


def checked_logits(logits: Shaped[np.ndarray, "..."], task: Task) -> Float[np.ndarray, "n c"]:
    """The logits in float64, or a ValueError that says what is wrong with them."""
    if task not in ("multiclass", "multilabel"):
        raise ValueError(f"task is 'multiclass' or 'multilabel', not {task!r}")
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2 or (task == "multiclass" and values.shape[1] < 2):
        raise ValueError(f"{task} logits have the shape (examples, classes), not {values.shape}")
    bad = int((~np.isfinite(values).all(axis=1)).sum())
    if bad:
        raise ValueError(f"the logits of {bad} of {len(values)} examples are not finite")
    return values


def checked_labels(
    labels: Shaped[np.ndarray, "..."], logits: Float[np.ndarray, "n c"], task: Task
) -> Shaped[np.ndarray, "..."]:
    """int64 (N,) class indices or float64 (N, L) of 0, 1 and NaN (unknown), or a ValueError."""
    values = np.asarray(labels)
    if task == "multilabel":
        values = values.astype(np.float64)
        if values.shape != logits.shape:
            raise ValueError(f"labels {values.shape} do not fit the logits {logits.shape}")
        if not np.isin(values[~np.isnan(values)], (0.0, 1.0)).all():
            raise ValueError("multilabel labels are 0, 1 or NaN (unknown)")
        return values
    if values.shape != logits.shape[:1]:
        raise ValueError(f"labels {values.shape} do not fit the logits {logits.shape}")
    whole = values.astype(np.int64)
    if not np.array_equal(whole, values) or ((whole < 0) | (whole >= logits.shape[1])).any():
        raise ValueError(f"multiclass labels are whole numbers from 0 to {logits.shape[1] - 1}")
    return whole


def _logsumexp(values: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n 1"]:
    top = values.max(axis=1, keepdims=True, initial=-np.inf)
    return top + np.log(np.exp(values - top).sum(axis=1, keepdims=True))
