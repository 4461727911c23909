"""Intervals of one model's figures: closed forms, clustered by patient, inside the figure's range.

Score intervals in the sense of Wilson (1927, JASA 22:209): all values theta from which the estimate is
no farther than q standard deviations, the deviation taken at theta, so that an interval has a width
where every answer is right, too. The variance at theta is D times

  a share, balanced accuracy, F1, AUPRC, (1 + x) / 2 of MCC and kappa, x / 2 of Brier:  theta (1 - theta) / n;
  AUROC:  the exponential model of Hanley & McNeil 1982 in the form of Newcombe 2006 (Stat. Med. 25:559),
          his method 5 without the ends that he leaves out.

D, the design effect, is the variance by patients (see `linearise`) over that variance at the estimate.
Near 0 and 1 few patients stand behind it: e of them, counted by the fourth moment. It is therefore
averaged, with weights e and z^2 / 2 (the pseudo-errors that Wilson's centre adds), with its worst value,
that of patients whose images are all alike; and it is never below 1 (but for Brier, of which the variance
above is the largest possible). q is Student's, with one degree of
freedom less than the patients of the rarest class; where D is known, it is the normal q: with independent
examples a plain share has D = 1, and with all answers right D is its worst. The loss: a t
interval of its logarithm, with e degrees of freedom. Measured in docs/validity.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ttl_jax.evaluation import registry
from ttl_jax.evaluation.bootstrap import Interval
from ttl_jax.evaluation.influence import Linearised, linearise
from ttl_jax.evaluation.predictions import Predictions
from ttl_jax.evaluation.probability import Task
from ttl_jax.typing import Bool, Float, Int, Shaped


def score_interval(
    labels: Shaped[np.ndarray, "..."],
    logits: Float[np.ndarray, "n c"] | Sequence[Float[np.ndarray, "n c"]],
    metric: str,
    groups: Shaped[np.ndarray, "n"] | None = None,
    *,
    task: Task = "multiclass",
    level: float = 0.95,
) -> Interval:
    """Interval of a figure of `score`, over other patients; of several runs, over other seeds too.

    Args:
        labels: int (N,) or float (N, L) with NaN for unknown.
        logits: (N, C); or (R, N, C) of several runs that differ in their seed, for the mean of the figure
            over them: the variance of that mean over seeds, s^2 / S, is added to the patients'.
        metric: name of a metric that has `terms`. (ECE has none: its estimate is biased upwards.)
        groups: (N,) patients; None makes every example one.
        task: form of the labels.
        level: the share that the interval is to cover.

    Returns:
        low and high are None where the figure is not defined, or there are fewer than two groups.

    Raises:
        ValueError: a metric that is not known, shapes or values that do not fit.
    """
    runs = list(logits) if isinstance(logits, list | tuple) or np.ndim(logits) == 3 else [logits]
    if not runs:
        raise ValueError("the interval of a figure over no runs")
    each_run = [linearise(labels, np.asarray(run), metric, task) for run in runs]
    members = np.arange(len(runs[0])) if groups is None else np.asarray(groups)
    if len(members) != len(runs[0]):
        raise ValueError(f"{len(runs)} runs and {len(members)} groups do not fit")
    place = np.unique(members, return_inverse=True)[1]
    patients = int(place.max(initial=-1)) + 1
    known = [each for each in each_run if each is not None]
    if len(known) < len(runs):
        return Interval(None, None, None, level, 0, patients, 0)
    estimates = np.array([each.estimate for each in known])
    influences = np.mean([each.values for each in known], axis=0)
    mean = Linearised(float(estimates.mean()), influences, known[0].classes, known[0].kind)
    seeds = float(estimates.var(ddof=1)) / len(known) if len(known) > 1 else 0.0
    low, high = _interval(mean, place, registry.metric(metric).bounds, level, seeds, len(known))
    return Interval(mean.estimate, low, high, level, 0, patients, 0)


def intervals_of(
    runs: Sequence[Predictions], metrics: Sequence[str] | None = None, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """metric -> (low, high) of the mean over runs on one test set; without those that have none.

    Args:
        runs: predictions of each run for one split.
        metrics: names of the metrics wanted; None for all.
        level: the share that an interval is to cover.

    Empty where the runs were not tested on the same examples (folds): then patients are not shared.
    """
    if not runs or any(
        not np.array_equal(getattr(each, name), getattr(runs[0], name), equal_nan=name == "labels")
        for each in runs
        for name in ("ids", "labels")
    ):
        return {}
    ends = {}
    having = [each.name for each in registry.metrics() if each.terms and runs[0].task in each.tasks]
    for metric in having if metrics is None else [name for name in metrics if name in having]:
        logits = [each.logits for each in runs]
        each = score_interval(runs[0].labels, logits, metric, runs[0].groups, task=runs[0].task, level=level)
        if each.low is not None and each.high is not None:
            ends[metric] = each.low, each.high
    return ends


Counts = Sequence[tuple[int, ...]]  # of each part: examples (or patients) of its classes


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
    where all hits are alike, as its patients.

    Args:
        hits: True for the examples that are counted.
        groups: (N,) names or numbers of patients.
        level: confidence of the interval.

    Raises:
        ValueError: lengths that differ.
    """
    right, members = np.asarray(hits, bool), np.asarray(groups)
    if right.shape != members.shape or right.ndim != 1:
        raise ValueError(f"{right.shape} hits and {members.shape} groups")
    if not len(right):
        return Proportion(None, None, None, 0)
    share, place = float(right.mean()), np.unique(members, return_inverse=True)[1]
    part = Linearised(share, (right - share) / len(right), ((np.ones(len(right), bool),),), "share")
    low, high = _interval(part, place, (0.0, 1.0), level, 0.0, 1)
    if low is None or high is None:  # of one patient nothing is known but that one
        low, high = 0.0, 1.0
    return Proportion(share, low, high, len(right))


def _interval(
    part: Linearised,
    place: Int[np.ndarray, "n"],
    bounds: tuple[float, float],
    level: float,
    seeds: float,
    runs: int,
) -> tuple[float | None, float | None]:
    """low and high; bounds: of the metric; seeds: the variance of the mean over `runs` seeds."""
    from scipy import special

    if int(place.max()) < 1:
        return None, None
    tail = (1 + level) / 2
    over_patients = spread(part, place, bounds, level)

    def quantile(of_patients: float) -> float:
        """Student's, its degrees of freedom those of the sum of two variances (Satterthwaite 1946)."""
        if not over_patients.behind and seeds == 0.0:
            return float(special.ndtri(tail))
        if runs == 1 or seeds == 0.0:
            return float(special.stdtrit(over_patients.freedom, tail))
        sum_of_both = of_patients**2 / over_patients.freedom + seeds**2 / (runs - 1)
        return float(special.stdtrit((of_patients + seeds) ** 2 / sum_of_both, tail))

    if np.isinf(bounds[1]):
        if part.estimate <= 0 or over_patients.seen + seeds == 0:
            return None, None
        half = quantile(over_patients.seen) * float(np.sqrt(over_patients.seen + seeds)) / part.estimate
        if half > 10:  # from a millionth of it to a million times: nothing is known
            return None, None
        return part.estimate * float(np.exp(-half)), part.estimate * float(np.exp(half))
    effect = over_patients.effect
    if over_patients.plain and runs == 1:
        low, high = over_patients.model.interval(over_patients.theta, 1.0, float(special.ndtri(tail)), level)
    else:
        q = quantile(effect * over_patients.at)
        if seeds:
            # At the edge itself the model's variance is none: seeds that differ leave it.
            effect += seeds / over_patients.at
        low, high = over_patients.model.interval(over_patients.theta, effect, q, level)
    return low * over_patients.scale + bounds[0], high * over_patients.scale + bounds[0]


@dataclass(frozen=True)
class Spread:
    """Spread of a figure over patients.

    Attributes:
        theta: the figure on a scale from 0 to 1.
        scale: width of its range.
        model: its variance at any value, of independent examples.
        effect: the design effect D.
        at: variance of independent examples at the estimate.
        seen: variance by patients at the estimate.
        behind: number of patients behind that.
        freedom: degrees of freedom of it.
        plain: a share of independent examples, of which D is 1.
        patients: number of them.
    """

    theta: float
    scale: float
    model: _Share | _Auroc
    effect: float
    at: float
    seen: float
    behind: float
    freedom: float
    plain: bool
    patients: int

    def variance(self, theta: float) -> float:
        """The variance that the figure would have at another value, on the scale from 0 to 1."""
        return self.effect * self.model.variance(theta)


def spread(
    part: Linearised, place: Int[np.ndarray, "n"], bounds: tuple[float, float], level: float
) -> Spread:
    """The spread of a figure over two patients or more.

    Args:
        part: the figure and the influences of its examples.
        place: the number of each example's patient.
        bounds: of the metric; of an unbounded one (loss) only `seen`, `behind` and `freedom` are given.
        level: confidence of the interval, by which the prior weighs.
    """
    from scipy import special

    patients = int(place.max()) + 1
    sums = np.bincount(place, weights=part.values)
    seen = patients / (patients - 1) * float(sums @ sums)
    behind = float(sums @ sums) ** 2 / float((sums**4).sum()) if seen > 1e-18 else 0.0
    counts = [tuple(int(each.sum()) for each in parts) for parts in part.classes]
    clusters = [tuple(int((np.bincount(place[each]) > 0).sum()) for each in parts) for parts in part.classes]
    rarest = min((min(each) for each in clusters), default=patients)
    freedom: float = max(rarest - 1, 1)
    bottom, top = bounds
    kind = _Auroc if part.kind == "pairs" else _Share
    model = kind(counts)
    if np.isinf(top):  # a few large losses make up a heavy tail
        return Spread(np.nan, np.nan, model, np.nan, np.nan, seen, behind,
                      max(min(freedom, behind), 1.0), False, patients)  # fmt: skip
    scale = top - bottom
    theta = (part.estimate - bottom) / scale
    plain = part.kind == "share" and len(part.classes) == 1 and patients == len(place)
    least = min(min(each) for each in counts)
    at = model.variance(theta) * scale**2 * least / max(least - 1, 1)
    worst = kind(clusters).variance(0.5) / model.variance(0.5)
    prior = float(special.ndtri((1 + level) / 2)) ** 2 / 2
    effect = (behind * (seen / at if behind else 0.0) + prior * worst) / (behind + prior)
    effect = effect if part.kind == "errors" else max(effect, 1.0)
    return Spread(theta, scale, model, effect, at, seen, behind, freedom, plain, patients)


@dataclass(frozen=True)
class _Share:
    """A mean of independent shares, each of so many examples."""

    counts: Counts

    def variance(self, theta: float) -> float:
        return theta * (1 - theta) * sum(1 / each[0] for each in self.counts) / len(self.counts) ** 2

    def interval(self, theta: float, effect: float, q: float, level: float) -> tuple[float, float]:
        """Wilson's, and nowhere inside Clopper and Pearson's of twice the error.

        With an error or two Wilson's covers as little as 89 %; this is the mend of Brown, Cai & DasGupta
        2001 (Statistical Science 16:101, section 4.1.1), for any size.
        """
        from scipy import special

        size = 0.25 / (effect * self.variance(0.5))
        centre = (theta + q * q / (2 * size)) / (1 + q * q / size)
        half = q / (1 + q * q / size) * np.sqrt(theta * (1 - theta) / size + (q / (2 * size)) ** 2)
        hits, errors = size * theta, size * (1 - theta)
        low = min(centre - half, special.betaincinv(hits, errors + 1, 1 - level)) if theta > 0 else 0.0
        high = max(centre + half, special.betaincinv(hits + 1, errors, level)) if theta < 1 else 1.0
        return float(low), float(high)


@dataclass(frozen=True)
class _Auroc:
    """A mean of independent AUROCs, each of so many positives and negatives."""

    counts: Counts

    def variance(self, theta: float) -> float:
        """Newcombe 2006, equation 3: m and n both replaced by their mean in Hanley & McNeil's two terms."""
        total = 0.0
        for ups, downs in self.counts:
            among = (ups + downs) / 2 - 1
            spread = 1 + among * ((1 - theta) / (2 - theta) + theta / (1 + theta))
            total += theta * (1 - theta) * spread / (ups * downs)
        return total / len(self.counts) ** 2

    def interval(self, theta: float, effect: float, q: float, level: float) -> tuple[float, float]:
        """The two x with (theta - x)^2 = q^2 effect variance(x)."""
        from scipy import optimize

        def beyond(x: float) -> float:
            return (theta - x) ** 2 - q * q * effect * self.variance(x)

        inside = min(max(theta, 1e-12), 1 - 1e-12)  # at 0 and 1 the estimate itself is a root
        low = optimize.brentq(beyond, 0.0, inside) if theta > 1e-12 else 0.0
        high = optimize.brentq(beyond, inside, 1.0) if theta < 1 - 1e-12 else 1.0
        return float(low), float(high)


@dataclass(frozen=True)
class MeanInterval:
    """mean of n values and its confidence interval; low and high are None with one value, or all alike."""

    mean: float
    low: float | None
    high: float | None
    n: int
    sd: float | None


def mean_interval(
    values: Sequence[float], level: float = 0.95, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> MeanInterval:
    """Student's t interval: mean +- t(n - 1) * s / sqrt(n), s the sample standard deviation.

    It speaks of other seeds on the same test set; how far another test set would differ is
    `score_interval`'s to say.

    Args:
        values: one figure a seed.
        level: confidence of the interval.
        bounds: lowest and highest possible value; the interval ends there.

    Raises:
        ValueError: no values.
    """
    from scipy import stats

    figures = np.asarray(values, np.float64)
    if not len(figures):
        raise ValueError("the mean of no values")
    mean = float(figures.mean())
    if len(figures) == 1:
        return MeanInterval(mean, None, None, 1, None)
    sd = float(figures.std(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, len(figures) - 1)) * sd / len(figures) ** 0.5
    if sd == 0.0:  # values that happen to be alike say nothing of how they vary
        return MeanInterval(mean, None, None, len(figures), sd)
    low, high = max(mean - half, bounds[0]), min(mean + half, bounds[1])
    return MeanInterval(mean, low, high, len(figures), sd)
