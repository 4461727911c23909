"""Score against cost: a price in the objective, or the whole front."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping


def penalised(
    objective: Callable[[int], float], price: Mapping[int, float], weight: float, *, maximize: bool = True
) -> Callable[[int], float]:
    """The objective less `weight` times a unit's price (plus, where low scores are good).

    Args:
        objective: unit -> score.
        price: unit -> cost, best relative to the whole network: then `weight` is what score the
            whole network's cost is worth.
        weight: lambda.
        maximize: True where high scores are good, False where low ones are.
    """
    sign = -1.0 if maximize else 1.0
    return lambda unit: objective(unit) + sign * weight * price[unit]


def pareto(
    scores: Mapping[int, float], price: Mapping[int, float], *, maximize: bool = True
) -> tuple[int, ...]:
    """The units that no other beats in score without costing more, cheapest first.

    A unit is left out if another is at least as good in both and better in one; NaN is left out.
    """
    sign = 1.0 if maximize else -1.0
    front: list[int] = []
    best = -math.inf
    known = [unit for unit in scores if not math.isnan(scores[unit])]
    for unit in sorted(known, key=lambda unit: (price[unit], -sign * scores[unit], unit)):
        if sign * scores[unit] > best:
            front.append(unit)
            best = sign * scores[unit]
    return tuple(front)
