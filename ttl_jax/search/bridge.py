"""What the scores of some units say about the units between them: a Wiener process along the network.

Neighbouring cuts differ little, far ones much: between two scored units the score is a Brownian
bridge. It is the classic model of one-dimensional search under costly evaluations (Kushner 1964;
expected improvement: Mockus 1975), and it has no length scale to be tuned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy.stats import norm


class Belief(NamedTuple):
    """Normal distribution of an unseen unit's score.

    Attributes:
        mean, deviation: of the score.
        gain: expected improvement over the best score so far.
        chance: probability that it beats the best score so far.
    """

    mean: float
    deviation: float
    gain: float
    chance: float


def step_variance(seen: Mapping[int, float]) -> float:
    """Variance of the score's change from one unit to the next: the process's likeliest value."""
    places = sorted(seen)
    steps = [(seen[b] - seen[a]) ** 2 / (b - a) for a, b in zip(places, places[1:], strict=False)]
    return math.fsum(steps) / len(steps) if steps else 0.0


def beliefs(seen: Mapping[int, float], units: Sequence[int]) -> dict[int, Belief]:
    """What to expect of every unit between scored ones.

    Args:
        seen: scores by unit, higher is better. Units below or above all of them have no belief.
        units: all candidates.
    """
    variance, best, places = step_variance(seen), max(seen.values()), sorted(seen)
    found = {}
    for low, high in zip(places, places[1:], strict=False):
        for unit in units:
            if not low < unit < high:
                continue
            share = (unit - low) / (high - low)
            mean = seen[low] + share * (seen[high] - seen[low])
            deviation = math.sqrt(variance * (unit - low) * (high - unit) / (high - low))
            found[unit] = _belief(mean, deviation, best)
    return found


def _belief(mean: float, deviation: float, best: float) -> Belief:
    if deviation == 0:
        return Belief(mean, 0.0, max(mean - best, 0.0), float(mean > best))
    z = (mean - best) / deviation
    gain = (mean - best) * norm.cdf(z) + deviation * norm.pdf(z)
    return Belief(mean, deviation, float(gain), float(norm.cdf(z)))
