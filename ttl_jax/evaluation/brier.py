"""Murphy's decomposition: how much of a Brier score is calibration, and how much is sorting."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from ttl_jax.evaluation.probability import Task, checked_labels, probabilities
from ttl_jax.typing import Float, Shaped


@dataclass(frozen=True)
class Brier:
    """brier = reliability - resolution + uncertainty + within.

    reliability: mean squared gap between forecast and share of events, over bins (0 is best).
    resolution: how far the bins' shares lie from the base rate (more is better).
    uncertainty: base rate * (1 - base rate), which no forecast changes.
    within: what is lost by binning: variance of forecasts inside bins less twice their covariance
        with the events (Stephenson et al. 2008); 0 where a bin holds one forecast only.
    """

    brier: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float


def brier_decomposition(
    labels: Shaped[np.ndarray, "n"], chances: Float[np.ndarray, "n"], bins: int | None = 15
) -> Brier:
    """Decomposes the two-class Brier score, mean of (p - y)^2 (Murphy 1973, J. Appl. Meteorol. 12:595).

    Args:
        labels: 0 and 1.
        chances: probabilities of 1.
        bins: of equal width; None makes every distinct forecast a bin, Murphy's own form.

    Raises:
        ValueError: no examples, or lengths, labels or probabilities that do not fit.
    """
    truth, p = np.asarray(labels, np.float64), np.asarray(chances, np.float64)
    if truth.shape != p.shape or truth.ndim != 1 or not len(truth):
        raise ValueError(f"labels {truth.shape} and probabilities {p.shape} do not fit")
    if not np.isin(truth, (0, 1)).all() or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("the decomposition takes labels 0 and 1, and probabilities")
    if bins is None:
        place = np.unique(p, return_inverse=True)[1]
    else:
        place = np.unique(np.clip(np.ceil(p * bins) - 1, 0, bins - 1), return_inverse=True)[1]
    count = np.bincount(place)
    forecast, event = (np.bincount(place, weights=values) / count for values in (p, truth))
    share, base = count / len(p), truth.mean()
    inside, apart = p - forecast[place], truth - event[place]
    return Brier(
        brier=float(((p - truth) ** 2).mean()),
        reliability=float((share * (forecast - event) ** 2).sum()),
        resolution=float((share * (event - base) ** 2).sum()),
        uncertainty=float(base * (1 - base)),
        within=float((inside**2).mean() - 2 * (inside * apart).mean()),
    )


def brier_parts(
    labels: Shaped[np.ndarray, "..."],
    logits: Float[np.ndarray, "examples classes"],
    task: Task = "multiclass",
    bins: int | None = 15,
) -> Brier | None:
    """Decomposes the Brier score as `score` defines it, class by class; None where nothing is known.

    "multiclass": the sum over classes, each against the rest (0 to 2). "multilabel": the mean over
    labels, weighted by their known entries (0 to 1).

    Raises:
        ValueError: shapes or values that do not fit.
    """
    chances = probabilities(logits, task)
    truth = checked_labels(labels, chances, task)
    parts, weights = [], []
    for place in range(chances.shape[1]):
        events = truth[:, place] if task == "multilabel" else (truth == place).astype(np.float64)
        known = ~np.isnan(events)
        if known.any():
            parts.append(astuple(brier_decomposition(events[known], chances[known, place], bins)))
            weights.append(known.sum() if task == "multilabel" else 1.0)
    if not parts:
        return None
    scale = sum(weights) if task == "multilabel" else 1.0
    return Brier(*(float(value) for value in np.asarray(weights) @ np.asarray(parts) / scale))
