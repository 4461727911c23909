"""What happens to the weights at the end: EMA, soups of a run's validations, WiSE-FT.

    Ema      theta_bar <- d theta_bar + (1 - d) theta after every step, d = min(decay, (1 + t) / (10 + t))
    Soup     the mean of the weights at the last validations: of all of them ("uniform"), or of those
             that, taken from the best down, do not lower the validation score ("greedy";
             Wortsman et al. 2022a; within one run as in SWA, Izmailov et al. 2018)
    WiseFT   (1 - alpha) theta_0 + alpha theta (Wortsman et al. 2022b)

Pure functions of pytrees; training decides when to call them. Frozen leaves are equal in all
weights, so every mean leaves them bitwise as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np

from ttl_jax.errors import UserError
from ttl_jax.typing import Array, Float, Int

Leaves = Mapping[str, Array]
Score = TypeVar("Score", bound=Any)  # greater is better
SOUPS = ("greedy", "uniform")


@dataclass(frozen=True)
class Ema:
    """Exponential moving average of weights and statistics; it is what is validated and kept."""

    decay: float

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise UserError(f"ema: decay={self.decay} must be at least 0 and below 1")


@dataclass(frozen=True)
class Soup:
    """Mean of the weights at the last `last` validations of the last phase."""

    kind: str
    last: int

    def __post_init__(self) -> None:
        if self.kind not in SOUPS:
            raise UserError(f"soup: kind={self.kind!r} is not one of {SOUPS}")
        if self.last < 2:
            raise UserError(f"soup: last={self.last} must be 2 or more")


@dataclass(frozen=True)
class WiseFT:
    """Interpolation between the weights at the start of the last phase and the best ones.

    `alpha` None: the best of 0, .1, ..., 1 on validation. With one phase the start has no trained
    head, so only the backbone is interpolated; after a probe (lp_ft) the head is too.
    """

    alpha: float | None

    def __post_init__(self) -> None:
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise UserError(f"wise_ft: alpha={self.alpha} must lie between 0 and 1")


After = Ema | Soup | WiseFT


def ema_decay(decay: float, steps: Int[Array, ""]) -> Float[Array, ""]:
    """The decay of one step: short memory at first, so that the start is forgotten."""
    age = steps.astype(jnp.float32)
    return jnp.minimum(decay, (1 + age) / (10 + age))


def ema_update(average: Leaves, values: Leaves, decay: Float[Array, ""]) -> dict[str, Array]:
    """One step of the average, leaf by leaf."""
    return {path: old + (1 - decay) * (values[path] - old) for path, old in average.items()}


def interpolate(start: Leaves, end: Leaves, alpha: float) -> dict[str, Array]:
    """(1 - alpha) start + alpha end; exactly the end at alpha 1 and the start at 0."""
    if alpha in (0, 1):
        return dict(end if alpha else start)
    return {path: start[path] + alpha * (value - start[path]) for path, value in end.items()}


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
    ingredients: Sequence[Leaves], scores: Sequence[Score], score: Callable[[Leaves], Score]
) -> tuple[dict[str, Array], list[int], Score]:
    """Adds ingredients from the best down, keeping each that does not lower the score.

    Args:
        ingredients: weights, oldest first.
        scores: of each alone, on validation: numbers or tuples, greater is better; the newest of equals
            comes first.
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


def best_alpha(score: Callable[[float], Score]) -> tuple[float, Score]:
    """The best of 0, .1, ..., 1 and its score; the larger one (nearer to fine-tuned) of equals."""
    figures = {round(float(alpha), 1): score(float(alpha)) for alpha in np.linspace(1, 0, 11)}
    return max(figures.items(), key=lambda item: item[1])
