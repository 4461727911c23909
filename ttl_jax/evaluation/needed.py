"""Power: the training seeds, or patients, that would show a gain of a given size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ttl_jax.evaluation.components import Components, student

MOST = 10_000  # seeds; who needs more needs other patients, or another question


@dataclass(frozen=True)
class Needed:
    """The size of a study that would settle a comparison.

    Attributes:
        seeds: of each strategy, with the same patients; None where no number would do.
        patients: then, with seeds to match.

    Both are None where it cannot be told: one seed, no variance, or too few patients to know how far they
    differ.
    """

    seeds: int | None
    patients: int | None


def needed(comparison: Components, gain: float, alpha: float = 0.05, power: float = 0.8) -> Needed:
    """The seeds with which a true difference of `gain` would be found with the chance `power`.

    The components are taken as they were estimated: with few seeds the answer is as rough as they are.

    Args:
        comparison: the comparison as it stands.
        gain: true difference, above 0.
        alpha: two-sided level of the test; of many comparisons Holm's first step, 0.05 / their number.
        power: chance of finding it.
    """
    if (
        not comparison.seed_freedom
        or not comparison.known
        or not comparison.variance
        or comparison.few_patients
    ):
        return Needed(None, None)
    if not _enough(comparison, MOST, gain, alpha, power):
        errors = student(alpha, math.inf) + student(2 * (1 - power), math.inf)
        return Needed(
            None, math.ceil(comparison.groups * comparison.patients.variance * (errors / gain) ** 2)
        )
    low, high = 1, 2  # too few, and a number that may do
    while not _enough(comparison, high, gain, alpha, power):
        low, high = high, min(2 * high, MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _enough(comparison, middle, gain, alpha, power) else (middle, high)
    return Needed(high, None)


def _enough(comparison: Components, seeds: int, gain: float, alpha: float, power: float) -> bool:
    """The gain would be found often enough, over what the seeds' variance may come out as."""
    from scipy.special import gammaincinv, ndtr

    freedom = comparison.seed_freedom - (comparison.seeds - 1) + seeds - 1  # what it is moderated by stays
    if freedom < 2:  # nothing is claimed from so few: `Components.caveat`
        return False
    share = gammaincinv(freedom / 2, (np.arange(40) + 0.5) / 40) / (freedom / 2)  # chi squared / freedom
    share = share if freedom < 1e6 else np.ones(1)
    of_seeds, patients = comparison.seed_variance / seeds, comparison.patients
    half = np.hypot(
        math.sqrt(patients.variance) * student(alpha, patients.freedom),
        np.sqrt(of_seeds * share) * student(alpha, freedom),
    )
    error = math.sqrt(patients.variance + of_seeds)
    return error == 0.0 or bool(ndtr((gain - half) / error).mean() >= power)
