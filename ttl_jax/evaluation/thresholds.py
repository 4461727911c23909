"""Thresholds chosen on validation, and what a decision at a threshold is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttl_jax.typing import Float, Shaped


@dataclass(frozen=True)
class Operating:
    """Sensitivity and specificity of "score >= threshold"; None where the class is absent."""

    threshold: float
    sensitivity: float | None
    specificity: float | None


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit a patient at each threshold probability: of the model, and of treating all.

    Treating none has a net benefit of 0.
    """

    thresholds: Float[np.ndarray, "t"]
    model: Float[np.ndarray, "t"]
    treat_all: Float[np.ndarray, "t"]


def operating_point(
    labels: Shaped[np.ndarray, "n"], scores: Float[np.ndarray, "n"], threshold: float
) -> Operating:
    """Sensitivity and specificity on any split, at a threshold from `threshold_at`."""
    truth, said = np.asarray(labels) == 1, np.asarray(scores) >= threshold
    sensitivity = float(said[truth].mean()) if truth.any() else None
    specificity = float((~said)[~truth].mean()) if (~truth).any() else None
    return Operating(float(threshold), sensitivity, specificity)


def threshold_at(
    labels: Shaped[np.ndarray, "n"],
    scores: Float[np.ndarray, "n"],
    *,
    sensitivity: float | None = None,
    specificity: float | None = None,
) -> float:
    """The threshold that reaches a sensitivity with most specificity, or the other way round.

    To be chosen on validation and applied to the test split. Thresholds are scores of the data (or
    infinity, where no score is high enough to keep the specificity).

    Raises:
        ValueError: not exactly one aim, an aim outside 0..1, or the class that it is about is absent.
    """
    truth, values = np.asarray(labels) == 1, np.asarray(scores, np.float64)
    if (sensitivity is None) == (specificity is None):
        raise ValueError("give a sensitivity or a specificity")
    aim = sensitivity if sensitivity is not None else specificity
    assert aim is not None
    if not 0 <= aim <= 1:
        raise ValueError(f"an aim of {aim} is not between 0 and 1")
    about = np.sort(values[truth if sensitivity is not None else ~truth])
    if not len(about):
        raise ValueError("there is no example of the class that the aim is about")
    if sensitivity is not None:
        # the largest score that leaves at least the share `aim` of the positives at or above it
        missed = int(np.floor(len(about) * (1 - aim) + 1e-9))
        return float(about[missed]) if missed < len(about) else np.inf
    # the smallest score above so many of the negatives
    kept = int(np.ceil(len(about) * aim - 1e-9))
    if kept == 0:
        return float(values.min())
    above = values[values > about[kept - 1]]
    return float(above.min()) if len(above) else np.inf


def decision_curve(
    labels: Shaped[np.ndarray, "n"],
    chances: Float[np.ndarray, "n"],
    thresholds: Float[np.ndarray, "t"] | None = None,
) -> DecisionCurve:
    """Net benefit = TP / n - FP / n * t / (1 - t) (Vickers & Elkin 2006, Med. Decis. Making 26:565).

    Args:
        labels: 0 and 1.
        chances: calibrated probabilities of 1.
        thresholds: probabilities below 1 from which one would treat; None: 0.01 to 0.99.

    Raises:
        ValueError: no examples, or a threshold outside [0, 1).
    """
    truth, p = np.asarray(labels) == 1, np.asarray(chances, np.float64)
    at = np.linspace(0.01, 0.99, 99) if thresholds is None else np.asarray(thresholds, np.float64)
    if not len(truth) or truth.shape != p.shape:
        raise ValueError(f"labels {truth.shape} and probabilities {p.shape} do not fit")
    if not ((at >= 0) & (at < 1)).all():
        raise ValueError("thresholds are probabilities below 1")
    treated = p[None, :] >= at[:, None]
    true, false = (treated & truth).mean(axis=1), (treated & ~truth).mean(axis=1)
    odds = at / (1 - at)
    return DecisionCurve(at, true - false * odds, truth.mean() - (~truth).mean() * odds)
