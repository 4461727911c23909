"""Soups: the mean of the weights at a run's last validations, all of them ("uniform"), or of those that,
taken from the best down, do not lower the validation score ("greedy"; Wortsman et al. 2022a; within one run
as in SWA, Izmailov et al. 2018). Frozen leaves stay bitwise as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ttl_jax.errors import UserError
from ttl_jax.strategies.parts.part import END, Ended, Leaves, Part, Score
from ttl_jax.typing import Array

Merit = TypeVar("Merit", bound=Any)  # greater is better
SOUPS = ("greedy", "uniform")


@dataclass(frozen=True)
class Soup(Part):
    """Mean of the weights at the last `last` validations of the last phase."""

    kind: str
    last: int

    slot = END
    needs_values = False

    def __post_init__(self) -> None:
        if self.kind not in SOUPS:
            raise UserError(f"soup: kind={self.kind!r} is not one of {SOUPS}")
        if self.last < 2:
            raise UserError(f"soup: last={self.last} must be 2 or more")

    @property
    def keeps(self) -> int:  # type: ignore[override]
        return self.last

    def end(self, ended: Ended, score: Score) -> tuple[Leaves, dict[str, Any]]:
        ingredients = ended.validated()
        if self.kind == "uniform":
            soup = uniform_soup(ingredients)
            return soup, {"soup": self.kind, "kept": len(ingredients), "val": score(soup).figure}
        scores = [score(item) for item in ingredients]
        soup, kept, best = greedy_soup(ingredients, scores, score)
        return soup, {"soup": self.kind, "kept": len(kept), "of": len(ingredients), "val": best.figure}


def uniform_soup(ingredients: Sequence[Leaves]) -> dict[str, Array]:
    """The mean of weights.

    Written as the first plus the mean of the differences, so that equal leaves stay bitwise equal.
    """
    first, count = ingredients[0], len(ingredients)
    return {
        path: first[path] + sum(other[path] - first[path] for other in ingredients[1:]) / count
        for path in first
    }


def greedy_soup(
    ingredients: Sequence[Leaves], scores: Sequence[Merit], score: Callable[[Leaves], Merit]
) -> tuple[dict[str, Array], list[int], Merit]:
    """Adds ingredients from the best down, keeping each that does not lower the score.

    Args:
        ingredients: weights, oldest first.
        scores: validation score of each ingredient alone, a number or tuple, greater is better; of equals
            the newest comes first.
        score: scores weights on validation.

    Returns:
        (mean of those kept, their numbers, its score), as in algorithm 1 of Wortsman et al. 2022a.
    """
    order = sorted(range(len(ingredients)), key=lambda number: (scores[number], number), reverse=True)
    kept, best = [order[0]], scores[order[0]]
    soup = dict(ingredients[order[0]])
    for number in order[1:]:
        candidate = uniform_soup([ingredients[other] for other in (*kept, number)])
        figure = score(candidate)
        if figure >= best:
            kept, best, soup = [*kept, number], figure, candidate
    return soup, kept, best
