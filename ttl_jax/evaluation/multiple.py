"""Many comparisons at once: Holm, Friedman with Nemenyi, the Bayesian signed-rank test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ttl_jax.typing import Float


@dataclass(frozen=True)
class Friedman:
    """statistic and p of Friedman's test; ranks: mean rank of every treatment, 1 is best.

    pairwise: Nemenyi's p of every pair (k, k); critical_difference: of mean ranks, at `alpha`.
    """

    statistic: float
    p: float
    ranks: Float[np.ndarray, "k"]
    pairwise: Float[np.ndarray, "k k"]
    critical_difference: float
    alpha: float
    blocks: int


@dataclass(frozen=True)
class SignedRank:
    """Posterior chances that a is practically better, that both are alike, and that b is better."""

    a: float
    alike: float
    b: float


def holm(p: Sequence[float]) -> Float[np.ndarray, "m"]:
    """p-values adjusted by Holm's step-down procedure (1979), in the order given."""
    values = np.asarray(p, np.float64)  # statsmodels' takes 0.1 s each: it collects garbage every time
    order, adjusted = np.argsort(values), np.empty(len(values))
    rising = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted[order] = np.minimum(rising, 1.0)
    return adjusted


def friedman_nemenyi(values: Float[np.ndarray, "blocks k"], alpha: float = 0.05) -> Friedman:
    """Friedman's test over data sets, then Nemenyi's of all pairs (Demsar 2006, JMLR 7:1).

    Args:
        values: one row a data set (or data set and model), one column a strategy; more is better.
        alpha: for the critical difference q(alpha, k) * sqrt(k (k + 1) / (6 N)).

    Raises:
        ValueError: fewer than 3 treatments or 2 blocks, or a value that is not finite.
    """
    import scikit_posthocs
    from scipy import stats

    table = np.asarray(values, np.float64)
    if table.ndim != 2 or table.shape[1] < 3 or table.shape[0] < 2 or not np.isfinite(table).all():
        raise ValueError(f"Friedman's test needs 2 blocks and 3 treatments, all known, not {table.shape}")
    blocks, k = table.shape
    ranks = stats.rankdata(-table, axis=1).mean(axis=0)
    if np.ptp(table, axis=1).max() == 0:  # every treatment alike on every block
        statistic, p = 0.0, 1.0
    else:
        statistic, p = (float(value) for value in stats.friedmanchisquare(*table.T))
    pairwise = np.asarray(scikit_posthocs.posthoc_nemenyi_friedman(table), np.float64)
    q = float(stats.studentized_range.ppf(1 - alpha, k, np.inf)) / np.sqrt(2)
    difference = q * float(np.sqrt(k * (k + 1) / (6 * blocks)))
    return Friedman(statistic, p, ranks, pairwise, difference, alpha, blocks)


def cliques(ranks: Float[np.ndarray, "k"], critical_difference: float) -> tuple[tuple[int, int], ...]:
    """The bars of a critical-difference diagram: (first, last) places in the order of the ranks.

    Each is a longest run of treatments whose mean ranks differ by less than the critical difference.
    """
    ordered = np.sort(np.asarray(ranks, np.float64))
    stretches: list[tuple[int, int]] = []
    for first, rank in enumerate(ordered):
        last = int(np.searchsorted(ordered, rank + critical_difference, side="left")) - 1
        if last > first and (not stretches or last > stretches[-1][1]):
            stretches.append((first, last))
    return tuple(stretches)


def bayesian_signed_rank(
    a: Float[np.ndarray, "n"],
    b: Float[np.ndarray, "n"],
    rope: float,
    *,
    prior: float = 0.5,
    samples: int = 50_000,
    seed: int = 0,
) -> SignedRank:
    """Bayesian signed-rank test over data sets (Benavoli et al. 2014; tutorial: JMLR 2017, 18:77).

    The differences a - b and a pseudo-observation 0 of weight `prior` get Dirichlet weights; of every
    draw, the pairwise means (Walsh averages) above, inside and below the region of practical
    equivalence [-rope, rope] are weighed, and the heaviest of the three wins.

    Args:
        a: a figure a data set, more is better.
        b: as many figures of the other.
        rope: half the width of what makes no practical difference; 0 leaves `alike` at 0.

    Raises:
        ValueError: lengths that differ, a negative rope.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape or first.ndim != 1 or rope < 0:
        raise ValueError(f"figures {first.shape} and {second.shape} of the same data sets, and rope >= 0")
    differences = np.concatenate([[0.0], first - second])
    sums = differences[:, None] + differences[None, :]
    above, below = _over(sums, 2 * rope), _over(-sums, 2 * rope)
    weights = np.random.default_rng(seed).dirichlet([prior, *np.ones(len(first))], size=samples)
    chance_a = ((weights @ above) * weights).sum(axis=1)
    chance_b = ((weights @ below) * weights).sum(axis=1)
    if rope == 0:
        won = float((chance_a > chance_b).mean())
        return SignedRank(won, 0.0, 1.0 - won)
    winner = np.stack([chance_a, 1.0 - chance_a - chance_b, chance_b], axis=1).argmax(axis=1)
    shares = np.bincount(winner, minlength=3) / samples
    return SignedRank(*(float(share) for share in shares))


def _over(sums: np.ndarray, edge: float) -> np.ndarray:
    """1 above the edge, a half on it."""
    return (sums > edge) + 0.5 * (sums == edge)
