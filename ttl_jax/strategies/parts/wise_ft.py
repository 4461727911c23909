"""WiSE-FT: weights between those before and after fine-tuning (Wortsman et al. 2022b).

(1 - alpha) theta_0 + alpha theta
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ttl_jax.errors import UserError
from ttl_jax.strategies.parts.part import END, Ended, Leaves, Part, Score
from ttl_jax.typing import Array

Merit = TypeVar("Merit", bound=Any)  # greater is better
HEADS = ("params/head/", "params/source_head/")


@dataclass(frozen=True)
class WiseFT(Part):
    """Interpolation between the weights at the start of the last phase and the best ones.

    `alpha` None: the best of 0, .1, ..., 1 on validation. With one phase the start has no trained
    head, so only the backbone is interpolated; after a probe (lp_ft) the head is too.
    """

    alpha: float | None

    slot = END
    needs_values = False
    keeps_start = True

    def __post_init__(self) -> None:
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise UserError(f"wise_ft: alpha={self.alpha} must lie between 0 and 1")

    def end(self, ended: Ended, score: Score) -> tuple[Leaves, dict[str, Any]]:
        start, end = ended.start(), ended.best
        if ended.fresh_head:
            start = {**start, **{path: leaf for path, leaf in end.items() if path.startswith(HEADS)}}

        def between(alpha: float) -> Leaves:
            return interpolate(start, end, alpha)

        alpha = self.alpha
        if alpha is None:
            alpha, merit = best_alpha(lambda alpha: score(between(alpha)))
        else:
            merit = score(between(alpha))
        return between(alpha), {"wise_ft": alpha, "val": merit.figure}


def interpolate(start: Leaves, end: Leaves, alpha: float) -> dict[str, Array]:
    """(1 - alpha) start + alpha end; exactly the end at alpha 1 and the start at 0."""
    if alpha in (0, 1):
        return dict(end if alpha else start)
    return {path: start[path] + alpha * (value - start[path]) for path, value in end.items()}


def best_alpha(score: Callable[[float], Merit]) -> tuple[float, Merit]:
    """The best of 0, .1, ..., 1 and its score; the larger one (nearer to fine-tuned) of equals."""
    figures = {round(float(alpha), 1): score(float(alpha)) for alpha in np.linspace(1, 0, 11)}
    return max(figures.items(), key=lambda item: item[1])
