"""A search's finalists: what may be asked of them, and which can still win, given their scores over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from scipy.stats import t

from ttl_jax.errors import UserError
from ttl_jax.search.config import SearchOptions


def rivals(
    scores: Mapping[int, Sequence[float]], confidence: float = SearchOptions.confidence
) -> tuple[int, ...]:
    """The units whose mean the interval does not put below the leader's.

    Student's interval of the difference of two means, one-sided, with the variance pooled over all
    finalists (seeds move them alike) and Bonferroni's correction for the number of rivals.

    Args:
        scores: unit -> scores over seeds, higher is better; a unit with a NaN cannot win.
        confidence: probability that no unit which is left out would have won, below 1.

    Returns:
        The units still in the race, the leader among them; everyone while no variance is known.
    """
    valid = {unit: list(values) for unit, values in scores.items() if not any(map(math.isnan, values))}
    if len(valid) < 2:
        return tuple(valid)
    means = {unit: fmean(values) for unit, values in valid.items()}
    leader = max(sorted(means), key=lambda unit: means[unit])
    freedom = sum(len(values) - 1 for values in valid.values())
    if freedom == 0:
        return tuple(valid)
    squares = math.fsum((value - means[unit]) ** 2 for unit, values in valid.items() for value in values)
    quantile = float(t.ppf(1 - (1 - confidence) / (len(valid) - 1), freedom))

    def beaten(unit: int) -> bool:
        error = math.sqrt(squares / freedom * (1 / len(valid[leader]) + 1 / len(valid[unit])))
        return means[leader] - means[unit] > quantile * error

    return tuple(unit for unit in valid if unit == leader or not beaten(unit))


@dataclass(frozen=True)
class Terms:
    """The budget of a search, and the confidence at which it ends.

    Attributes:
        seeds: PRNG seeds of the trainings: the search takes the first, the finalists all.
        finalists: number of units that are trained with more seeds.
        allowance: whole trainings (times effort) that the search may cost.
        confidence: probability, below 1, at which the search ends sooner.
        tolerance: difference from the best score that counts as none.
        width: units trained side by side.
        maximize: True where high scores are good, False where low ones are.
    """

    seeds: Sequence[int] = (0,)
    finalists: int = SearchOptions.finalists
    allowance: float = math.inf
    confidence: float = SearchOptions.confidence
    tolerance: float = SearchOptions.tolerance
    width: int = 1
    maximize: bool = True

    @property
    def sign(self) -> float:
        """The factor of a score that makes high good: 1 or -1."""
        return 1.0 if self.maximize else -1.0

    def check(self) -> None:
        """Refuses what no search could do with its finalists.

        Raises:
            UserError: naming the value.
        """
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"seeds={tuple(self.seeds)} must be one or more different numbers")
        if self.finalists < 1 or self.width < 1:
            raise UserError(f"finalists={self.finalists} and width={self.width} must be 1 or more")
        if not 0 < self.confidence < 1:
            raise UserError(f"confidence={self.confidence} must lie between 0 and 1")


DEFAULT = Terms()
