"""The one order in which weights are chosen on validation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Merit(NamedTuple):
    """What validation says of some weights. Merits compare as tuples: the greater is the better.

    Weights of equal merit cannot be told apart on validation; those that trained longer are taken.

    Attributes:
        figure: the figure to select by, higher is better; minus the loss where it is not defined.
        minus_loss: minus the validation loss; it decides between equal figures.
    """

    figure: float
    minus_loss: float


def merit(scores: Mapping[str, Any], select: str) -> Merit:
    """The merit of weights with these validation scores.

    A figure that is not defined (None or NaN) is so for every model: that depends on the split's labels
    alone. The loss then stands in for it. A loss that is not defined is worse than any other.

    Args:
        scores: from `evaluation.score`.
        select: config.select, a key of them; "loss" is minimised.
    """
    minus_loss = _defined(scores["loss"], -1.0, -math.inf)
    return Merit(minus_loss if select == "loss" else _defined(scores[select], 1.0, minus_loss), minus_loss)


def _defined(value: float | None, sign: float, otherwise: float) -> float:
    return otherwise if value is None or math.isnan(value) else sign * float(value)
