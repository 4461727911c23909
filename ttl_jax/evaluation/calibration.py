"""Calibration: bins, the reliability curve, ECE, adaptive ECE, and temperature scaling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttl_jax.evaluation.probability import Task, checked_labels, checked_logits, probabilities
from ttl_jax.typing import Bool, Float, Int, Shaped


@dataclass(frozen=True)
class Calibration:
    """Confidence against accuracy in bins; a bin b of equal width holds (edges[b], edges[b + 1]].

    Bins of equal count are cut by rank: there edges[b] is the largest confidence of bin b - 1.

    confidence and accuracy are the means inside a bin, NaN where count is 0.
    """

    edges: Float[np.ndarray, "bins+1"]
    count: Int[np.ndarray, "bins"]
    confidence: Float[np.ndarray, "bins"]
    accuracy: Float[np.ndarray, "bins"]

    @property
    def ece(self) -> float | None:
        """Expected calibration error: sum over bins of count / n * |accuracy - confidence|."""
        if not self.count.sum():
            return None
        gap = np.abs(self.accuracy - self.confidence)
        return float(np.nansum(gap * self.count) / self.count.sum())


def calibration(
    labels: Shaped[np.ndarray, "..."],
    logits: Float[np.ndarray, "examples classes"],
    task: Task = "multiclass",
    bins: int = 15,
    adaptive: bool = False,
) -> Calibration:
    """Top-label calibration (Guo et al. 2017, "On calibration of modern neural networks", eq. 3-5).

    "multiclass": the confidence is the largest probability, and right means that its class is the
    label's. "multilabel": every known entry is a two-class problem of its own (confidence
    max(p, 1 - p)), and all of them share the bins.

    Args:
        labels: int (N,) or float (N, L) with NaN for unknown.
        logits: (N, C) or (N, L), unscaled.
        task: "multiclass" or "multilabel".
        bins: number of bins.
        adaptive: bins of equal count instead of equal width in [0, 1]; `.ece` is then the adaptive
            calibration error (Nixon et al. 2019, "Measuring calibration in deep learning").

    Raises:
        ValueError: shapes or values that do not fit.
    """
    values = checked_logits(logits, task)
    truth = checked_labels(labels, values, task)
    chances = probabilities(values, task)
    confidence, right = (each[0] for each in top_label(chances[None], truth, task))
    if adaptive:
        order = np.argsort(confidence, kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order)) * bins // max(len(order), 1)
        tops = [confidence[place == number].max(initial=0.0) for number in range(bins)]
        edges = np.maximum.accumulate([confidence.min(initial=1.0), *tops])
    else:
        edges = np.linspace(0.0, 1.0, bins + 1)
        place = _bins_of(confidence, edges)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Calibration(
            edges=edges,
            count=count,
            confidence=np.bincount(place, weights=confidence, minlength=bins) / count,
            accuracy=np.bincount(place, weights=right, minlength=bins) / count,
        )


def top_label(
    chances: Float[np.ndarray, "m n c"], truth: Shaped[np.ndarray, "..."], task: Task
) -> tuple[Float[np.ndarray, "m k"], Bool[np.ndarray, "m k"]]:
    """The confidence of each decision that counts and whether it is right, for each of several models."""
    if task == "multilabel":
        known = ~np.isnan(truth)
        return np.maximum(chances, 1.0 - chances)[:, known], ((chances >= 0.5) == (truth == 1.0))[:, known]
    return chances.max(axis=2), chances.argmax(axis=2) == truth


def expected_errors(
    confidence: Float[np.ndarray, "m k"], right: Bool[np.ndarray, "m k"], bins: int = 15
) -> Float[np.ndarray, "m"]:
    """The ECE of each model over bins of equal width; NaN where there is nothing."""
    models, count = confidence.shape
    if not count:
        return np.full(models, np.nan)
    numbers = _bins_of(confidence, np.linspace(0.0, 1.0, bins + 1)) + bins * np.arange(models)[:, None]
    # |accuracy - confidence| times a bin's share is the difference of the two sums
    gaps = np.bincount(numbers.ravel(), (right - confidence).ravel(), models * bins)
    return np.abs(gaps).reshape(models, bins).sum(axis=1) / count


def _bins_of(confidence: Float[np.ndarray, "..."], edges: Float[np.ndarray, "bins+1"]) -> np.ndarray:
    """side="left" puts a value on an edge into the bin below it; rounding may lift p over 1."""
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, len(edges) - 2)


def fit_temperature(
    labels: Shaped[np.ndarray, "..."], logits: Float[np.ndarray, "n c"], task: Task = "multiclass"
) -> float:
    """The T > 0 that minimises the cross-entropy of logits / T (Guo et al. 2017, section 4.2).

    Fit it on validation and divide the test logits by it: rankings and likeliest classes stay. The
    loss is convex in 1 / T; T is kept within 0.01 (towards which it goes where every example is right)
    and 100 (where all are wrong).

    Raises:
        ValueError: shapes or values that do not fit, or nothing known to fit on.
    """
    from scipy import optimize

    values = checked_logits(logits, task)
    truth = checked_labels(labels, values, task)
    if task == "multilabel":
        known = ~np.isnan(truth)
        # a label is a two-class problem: the loss is that of its logit, signed
        margins = np.where(truth == 1, values, -values)[known][:, None]
        others = -margins
    else:
        right = np.take_along_axis(values, truth[:, None], axis=1)
        others = values - right
    if not len(others):
        raise ValueError("a temperature cannot be fitted on no examples")

    def loss(log_scale: float) -> float:
        scaled = others * np.exp(log_scale)
        if task == "multilabel":
            return float(np.logaddexp(0.0, scaled).mean())
        top = scaled.max(axis=1, keepdims=True)
        return float((top[:, 0] + np.log(np.exp(scaled - top).sum(axis=1))).mean())

    edge = np.log(100.0)
    minimum = optimize.minimize_scalar(loss, bounds=(-edge, edge), method="bounded", options={"xatol": 1e-8})
    return float(np.exp(-minimum.x))
