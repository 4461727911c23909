"""A share of examples (a sensitivity, say) and its interval where examples share patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttl_jax.evaluation.intervals import share_interval
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
    """Wilson's interval of a share, at the number of examples that the patients are worth.

    Where every example is a patient that is Wilson's interval itself, but for one or two errors; with
    shared patients the sample counts as n / design effect (Rao & Scott 1992, Biometrics 48:577), and
    where all hits are alike, as its patients. See `intervals`.

    Args:
        hits: True for the examples that are counted.
        groups: (N,) patients.

    Raises:
        ValueError: lengths that differ.
    """
    right, members = np.asarray(hits, bool), np.asarray(groups)
    if right.shape != members.shape or right.ndim != 1:
        raise ValueError(f"{right.shape} hits and {members.shape} groups")
    if not len(right):
        return Proportion(None, None, None, 0)
    return Proportion(float(right.mean()), *share_interval(right, members, level), len(right))
