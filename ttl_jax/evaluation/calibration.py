"""Does a confidence of 0.8 come true eight times in ten? Bins, the reliability curve and ECE."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttl_jax.evaluation.probability import Task, checked_labels, checked_logits, probabilities
from ttl_jax.typing import Float, Int, Shaped


@dataclass(frozen=True)
class Calibration:
    """Confidence against accuracy in equal-width bins; bin b holds (edges[b], edges[b + 1]].

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
) -> Calibration:
    """Top-label calibration (Guo et al. 2017, "On calibration of modern neural networks", eq. 3-5).

    "multiclass": the confidence is the largest probability, and right means that its class is the
    label's. "multilabel": every known entry is a two-class problem of its own (confidence
    max(p, 1 - p)), and all of them share the bins.

    Args:
        labels: int (N,) or float (N, L) with NaN for unknown.
        logits: (N, C) or (N, L), unscaled.
        task: "multiclass" or "multilabel".
        bins: how many bins of equal width cut [0, 1].

    Raises:
        ValueError: shapes or values that do not fit.
    """
    values = checked_logits(logits, task)
    truth = checked_labels(labels, values, task)
    chances = probabilities(values, task)
    if task == "multilabel":
        known = ~np.isnan(truth)
        confidence = np.maximum(chances, 1.0 - chances)[known]
        right = ((chances >= 0.5) == (truth == 1.0))[known]
    else:
        confidence = chances.max(axis=1)
        right = chances.argmax(axis=1) == truth
    edges = np.linspace(0.0, 1.0, bins + 1)
    # side="left" puts a value on an edge into the bin below it; rounding may lift p over 1
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Calibration(
            edges=edges,
            count=count,
            confidence=np.bincount(place, weights=confidence, minlength=bins) / count,
            accuracy=np.bincount(place, weights=right, minlength=bins) / count,
        )
