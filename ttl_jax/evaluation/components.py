"""The components of variance of a difference between two strategies: patients and training seeds.

Strategies read the same patients over several seeds as imaging methods read the same cases over several
readers: this is the model of Obuchowski and Rockette (1995, Commun. Stat. Simul. 24:285), with both kinds of
replicates drawn at random, and seeds in the place of readers. Power follows from them (`needed`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ttl_jax.evaluation import registry
from ttl_jax.evaluation.influence import influence, jackknife
from ttl_jax.evaluation.probability import Task
from ttl_jax.typing import Float, Shaped

MIN_FREEDOM = 4.0  # of the patients' variance: about six patients of the rarer class that differ
MOST = 10_000  # seeds; who needs more needs other patients, or another question


@dataclass(frozen=True)
class Component:
    """A part of the variance of an estimate, and the degrees of freedom with which it is known."""

    variance: float
    freedom: float


@dataclass(frozen=True)
class Components:
    """A difference a - b over seeds, and the components of its variance.

    Attributes:
        estimate: mean over seeds.
        patients: variance that stays however many seeds there are: other patients, the same strategies.
        seed_variance: of a seed's difference around the mean over seeds, in these patients; NaN for one.
        seed_freedom: degrees of freedom of seed_variance: seeds - 1, more where it is moderated.
        seeds: runs of each strategy.
        groups: patients.
        same: all runs of a are runs of b, so that there is nothing to be uncertain of.
    """

    estimate: float
    patients: Component
    seed_variance: float
    seed_freedom: float
    seeds: int
    groups: int
    same: bool = False

    @property
    def parts(self) -> tuple[Component, ...]:
        """The summands of the estimate's variance: patients and seeds; with one seed patients alone."""
        if not self.seed_freedom:
            return (self.patients,)
        return self.patients, Component(self.seed_variance / self.seeds, self.seed_freedom)

    @property
    def variance(self) -> float:
        """Of the estimate; NaN where it is not known."""
        return sum(part.variance for part in self.parts)

    @property
    def known(self) -> bool:
        """Interval and p-value can be given."""
        finite = math.isfinite(self.estimate) and math.isfinite(self.variance)
        return self.groups > 1 and finite and (self.variance > 0 or self.same)

    @property
    def few_patients(self) -> bool:
        """So few patients differ that their variance is hardly known: more seeds do not mend that."""
        return self.patients.variance > 0 and self.patients.freedom < MIN_FREEDOM

    @property
    def caveat(self) -> str | None:
        """Why nothing can be claimed of other seeds and patients; None where something can."""
        if self.seed_freedom < 1:
            return "one seed: says nothing of other seeds"
        if self.seed_freedom < 2:
            return "two seeds: how far seeds differ is hardly known"
        if not self.known:
            return "no variance can be estimated"
        if self.few_patients:
            return "too few patients: how far they differ is hardly known"
        return None

    def half_width(self, alpha: float) -> float:
        """Of the interval at 1 - alpha: each part with Student's quantile of its own freedom, in quadrature.

        Howe (1974, JASA 69:789). One quantile for the sum, with Satterthwaite's freedom, takes a variance of
        few seeds that came out small by chance as certain: of 45 comparisons of what is alike, three seeds
        each, it "finds" some after Holm's correction in 30 % of studies (docs/validity.md).
        """
        parts = [part for part in self.parts if part.variance > 0]
        return math.hypot(*(math.sqrt(part.variance) * student(alpha, part.freedom) for part in parts))


def student(alpha: float, freedom: float) -> float:
    """Student's two-sided quantile, at a fiftieth of the time of `stats.t.isf`."""
    from scipy.special import ndtri, stdtrit

    return float(-ndtri(alpha / 2) if math.isinf(freedom) else -stdtrit(freedom, alpha / 2))


def paired_components(
    labels: Shaped[np.ndarray, "..."],
    logits_a: Sequence[Float[np.ndarray, "n c"]],
    logits_b: Sequence[Float[np.ndarray, "n c"]],
    groups: Shaped[np.ndarray, "n"],
    metric: str = "auroc",
    task: Task = "multiclass",
) -> Components:
    """The components of the mean over seeds of metric(a) - metric(b); arguments as `paired_difference`.

    The influences of patients come from the metric's terms; where it has none, from the jackknife.

    With the influences of patients on each seed's difference, `patients` is the mean covariance of two
    seeds' differences (0 where that is negative), and the variance between seeds that of the differences
    themselves. The latter holds the patients' part that differs from seed to seed: adding the whole variance
    over patients of the mean, V + s^2 / S, would count it twice.
    """
    if not len(logits_a) or len(logits_a) != len(logits_b):
        raise ValueError(f"{len(logits_a)} and {len(logits_b)} runs: pairs are needed")
    runs = len(logits_a)
    of_patients = jackknife if registry.metric(metric).terms is None else influence
    each = of_patients(labels, np.concatenate([logits_a, logits_b]), groups, metric, task)
    differences = each.values[:runs] - each.values[runs:]
    moved = each.groups[:runs] - each.groups[runs:]
    covariance = moved @ moved.T
    shared = (covariance.sum() - np.trace(covariance)) / (runs * (runs - 1)) if runs > 1 else covariance[0, 0]
    return Components(
        estimate=float(differences.mean()),
        patients=Component(_variance(shared), _freedom(moved.mean(axis=0))),
        seed_variance=_variance(differences.var(ddof=1)) if runs > 1 else np.nan,
        seed_freedom=runs - 1,
        seeds=runs,
        groups=moved.shape[1],
        same=all(np.array_equal(a, b) for a, b in zip(logits_a, logits_b, strict=True)),
    )


def _variance(value: float) -> float:
    """Not below 0, and without what rounding leaves of figures that are all the same; NaN stays."""
    return 0.0 if value < 1e-15 else float(value)


def _freedom(moved: Float[np.ndarray, "groups"]) -> float:
    """Of a sum of squares, 2 V^2 / var(V), its variance from the fourth powers (Satterthwaite 1946).

    Normal influences of G patients have G; where a few patients move most of it, it is about their number.
    """
    squares = moved**2
    total = squares.sum()
    spread = (squares**2).sum() - total**2 / len(squares)
    return float(2 * total**2 / spread) if spread > 0 else float(max(len(squares) - 1, 1))


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
    if power_at(comparison, MOST, gain, alpha) < power:
        errors = student(alpha, math.inf) + student(2 * (1 - power), math.inf)
        return Needed(
            None, math.ceil(comparison.groups * comparison.patients.variance * (errors / gain) ** 2)
        )
    low, high = 1, 2  # too few, and a number that may do
    while power_at(comparison, high, gain, alpha) < power:
        low, high = high, min(2 * high, MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_at(comparison, middle, gain, alpha) >= power else (middle, high)
    return Needed(high, None)


def power_at(comparison: Components, seeds: int, gain: float, alpha: float = 0.05) -> float:
    """The power of a comparison with so many seeds and the same patients: the chance to find a true gain.

    Over what the seeds' variance may come out as; 0 with so few seeds or patients that nothing is claimed.

    Args:
        comparison: components, taken as they were estimated.
        seeds: of each strategy.
        gain: true difference, above 0.
        alpha: two-sided level of the test.
    """
    from scipy.special import gammaincinv, ndtr

    freedom = comparison.seed_freedom - (comparison.seeds - 1) + seeds - 1  # what it is moderated by stays
    if freedom < 2 or comparison.few_patients:  # nothing is claimed from so few: `Components.caveat`
        return 0.0
    share = gammaincinv(freedom / 2, (np.arange(40) + 0.5) / 40) / (freedom / 2)  # chi squared / freedom
    share = share if freedom < 1e6 else np.ones(1)
    of_seeds, patients = comparison.seed_variance / seeds, comparison.patients
    half = np.hypot(
        math.sqrt(patients.variance) * student(alpha, patients.freedom),
        np.sqrt(of_seeds * share) * student(alpha, freedom),
    )
    error = math.sqrt(patients.variance + of_seeds)
    return 1.0 if error == 0.0 else float(ndtr((gain - half) / error).mean())
