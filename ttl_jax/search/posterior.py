"""Posterior of every unit's score: a Gaussian process over units and learning curves.

A score after a share t of the training is

    f(unit) + g(unit, t) + noise,

f, the score at the end, is an Ornstein-Uhlenbeck process over the units (Rasmussen and Williams 2006, section
4.2.1): neighbours are alike, and single units may stand out.
g, the way still to go, is zero at t = 1 and a Wiener process in log t: one part that all units share
(parallel curves) and one that changes smoothly from unit to unit (curves that cross), so that a unit is
not given up because it learns slowly. Half of the noise's variance belongs to the training and moves its
whole curve, half to each validation; both grow towards the beginning as 1 / t.

With a handful of scores the best-fitting scales are overconfident. They are averaged over instead, by
likelihood, on a grid in units of the `tolerance` (Osborne et al. 2009; prior: each point alike).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from ttl_jax.search.config import SearchOptions
from ttl_jax.search.protocol import Request

# Of one tolerance (a point): the spread of f, its length as a share of the network, the noise at the end,
# and the spread of g's part by unit at a ninth of the training.
SCALES = np.array(list(product((2.0, 5.0, 12.0), (0.2, 0.5, 1.2), (0.4, 1.0, 2.5), (3.0, 12.0, 36.0))))
LEVEL = 20.0  # spread of f's mean over units
SHARED = 30.0  # spread of g's shared part at a ninth of the training
DRAWS = 2000
# In simulations (docs/search.md) the model is a little too sure of itself: a confidence of 95 % is named
# where the model's own is 97 %.
MARGIN = 0.6  # of 1 - confidence


@dataclass(frozen=True)
class Posterior:
    """Mixture of normal distributions of every unit's score at the end.

    Attributes:
        units: 1-based indices of the units.
        weights: weights of the mixture's parts; their sum is 1.
        means, covariances: mean and covariance of each part, in tolerances.
        tolerance: the score that one tolerance stands for.
    """

    units: tuple[int, ...]
    weights: Float[np.ndarray, "parts"]
    means: Float[np.ndarray, "parts units"]
    covariances: Float[np.ndarray, "parts units units"]
    tolerance: float

    def mean(self) -> dict[int, float]:
        """The expected score by unit."""
        return dict(zip(self.units, (self.tolerance * (self.weights @ self.means)).tolist(), strict=True))

    def gains(self, over: int) -> dict[int, float]:
        """Expected improvement by unit over the mean of the unit `over` (Mockus 1975)."""
        spread = np.sqrt(np.maximum(np.diagonal(self.covariances, axis1=1, axis2=2), 1e-12))
        ahead = self.means - (self.weights @ self.means)[self.units.index(over)]
        z = ahead / spread
        gain = ahead * ndtr(z) + spread * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        return dict(zip(self.units, (self.tolerance * (self.weights @ gain)).tolist(), strict=True))

    def sure(self, best: int, confidence: float) -> bool:
        """Return whether no unit is better than `best` by more than the tolerance, at that confidence."""
        return self.within(best) >= 1 - MARGIN * (1 - confidence)

    def within(self, best: int) -> float:
        """The model's probability of it, from draws that are always the same."""
        rng, place, right = np.random.default_rng(0), self.units.index(best), 0
        counts = rng.multinomial(DRAWS, self.weights)
        roots = np.linalg.cholesky(self.covariances + 1e-6 * np.eye(len(self.units)))
        for count, mean, root in zip(counts, self.means, roots, strict=True):
            drawn = mean + rng.standard_normal((count, len(mean))) @ root.T
            right += int((drawn.max(1) - drawn[:, place] <= 1.0).sum())
        return right / DRAWS


def posterior(
    units: Sequence[int], scores: Mapping[Request, float], tolerance: float = SearchOptions.tolerance
) -> Posterior:
    """Conditions the process on scores.

    Args:
        units: all candidates.
        scores: score of each request, higher is better; NaN is left out.
        tolerance: a difference that matters little: the unit of the prior's scales (0.01: a point).
    """
    told = [(request, score) for request, score in scores.items() if not math.isnan(score)]
    place = np.array([units.index(request.unit) for request, _ in told])
    left = -np.log([request.budget for request, _ in told]) / math.log(9)  # 0 at the end
    seed = np.array([request.seed for request, _ in told])
    y = np.array([score for _, score in told]) / tolerance
    base = y[left == left.min()].mean()  # the level of the end, or of what comes nearest to it
    spread, length, noise, crossing = SCALES.T[:, :, None, None]

    apart = np.abs(np.subtract.outer(units, units)) / max(units[-1] - units[0], 1)
    end = LEVEL**2 + spread**2 * np.exp(-apart / length)
    way = SHARED**2 + crossing**2 * np.exp(-(apart**2) / 2)
    same = (np.equal.outer(place, place) & np.equal.outer(seed, seed)) / 2 + np.eye(len(y)) / 2
    growth = 3.0 ** np.add.outer(left, left)  # 1 / sqrt(t t'), as left = -log t / log 9
    seen = end[:, place][:, :, place] + noise**2 * growth * same
    seen = seen + way[:, place][:, :, place] * np.minimum.outer(left, left) + 1e-6 * np.eye(len(y))

    root = np.linalg.cholesky(seen)
    solved = np.linalg.solve(
        root, np.concatenate([end[:, place], np.broadcast_to((y - base)[:, None], (len(root), len(y), 1))], 2)
    )
    cross, rest = solved[..., :-1], solved[..., -1]
    fit = -(rest**2).sum(1) / 2 - np.log(np.diagonal(root, axis1=1, axis2=2)).sum(1)
    weights = np.exp(fit - fit.max())
    kept = weights > 0.01  # of the likeliest
    cross, rest = cross[kept], rest[kept]
    return Posterior(
        tuple(units),
        weights[kept] / weights[kept].sum(),
        base + np.einsum("pmu,pm->pu", cross, rest),
        end[kept] - cross.transpose(0, 2, 1) @ cross,
        tolerance,
    )
