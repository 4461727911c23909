"""The one order in which weights, trials and runs are chosen on validation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ttl_jax.evaluation.registry import known_metric


class Merit(NamedTuple):
    """The order of weights by their validation scores. Merits compare as tuples: the greater is the better.

    Weights of equal merit cannot be told apart on validation; those that trained longer are taken.

    Attributes:
        figure: the metric selected by, turned so that higher is better; minus the loss where undefined.
        minus_loss: minus the validation loss; it decides between equal figures.
    """

    figure: float
    minus_loss: float


def merit(scores: Mapping[str, Any], select: str) -> Merit:
    """The merit of weights with these validation scores.

    A metric that is undefined (None or NaN) is so for every model: that depends on the split's labels
    alone. The loss then stands in for it. A loss that is undefined is worse than any other.

    Args:
        scores: result of `evaluation.score` on the validation split.
        select: config.select, the name of a metric.
    """
    chosen = known_metric(select)
    minus_loss = _defined(scores["loss"], -1.0, -math.inf)
    return Merit(_defined(scores[chosen.name], chosen.sign, minus_loss), minus_loss)


def deciding(scores: Mapping[str, Any], select: str) -> str:
    """The metric that `merit` goes by: `select`, or "loss" where that is undefined."""
    chosen = known_metric(select).name
    return "loss" if scores[chosen] is None or math.isnan(scores[chosen]) else chosen


def figure(scores: Mapping[str, Any], select: str) -> float:
    """`Merit.figure` in the direction of `select`: its value as it is, or what stands in for it.

    Returns:
        of an undefined AUROC minus the loss, of an undefined ECE the loss; NaN where that is undefined too.
    """
    value = known_metric(select).sign * merit(scores, select).figure
    return value if math.isfinite(value) else math.nan


def _defined(value: float | None, sign: float, otherwise: float) -> float:
    return otherwise if value is None or math.isnan(value) else sign * float(value)
