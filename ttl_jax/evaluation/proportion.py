"""A share of examples (a sensitivity, say) and its interval where examples share patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttl_jax.typing import Bool, Shaped


@dataclass(frozen=True)
class Proportion:
    """`estimate` of `examples`, with its interval; all None where there is no example."""

    estimate: float | None
    low: float | None
    high: float | None
    examples: int


def clustered_proportion(
    hits: Bool[np.ndarray, "n"], groups: Shaped[np.ndarray, "n"], level: float = 0.95
) -> Proportion:
    """Wilson's interval of a share, at the number of examples that the groups are worth.

    The design effect (Rao & Scott 1992, Biometrics 48:577) is the variance of the share with whole
    groups as units over that with examples as units; the sample counts as n / design effect. Where every
    example is a group that is Wilson's interval itself; where all hits are alike, so that no variance
    can be seen, the sample counts as its groups.

    Args:
        hits: whether each example is one.
        groups: (N,) patients.

    Raises:
        ValueError: lengths that differ.
    """
    from statsmodels.stats.proportion import proportion_confint

    found, members = np.asarray(hits, bool), np.asarray(groups)
    if found.shape != members.shape or found.ndim != 1:
        raise ValueError(f"{found.shape} hits and {members.shape} groups")
    n = len(found)
    if not n:
        return Proportion(None, None, None, 0)
    share = float(found.mean())
    place = np.unique(members, return_inverse=True)[1]
    m = int(place.max()) + 1
    effective = float(m)
    if 1 < m and 0 < share < 1:
        apart = found - share
        between = m / (m - 1) * float((np.bincount(place, weights=apart) ** 2).sum())
        effect = between / (n / (n - 1) * float((apart**2).sum()))
        effective = n / max(effect, 1.0)
    low, high = proportion_confint(share * effective, effective, alpha=1 - level, method="wilson")
    return Proportion(share, float(low), float(high), n)
