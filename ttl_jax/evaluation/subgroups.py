"""Does it work as well for women, for the old, at the other hospital? Tables by a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ttl_jax.evaluation import registry
from ttl_jax.evaluation.bootstrap import Interval
from ttl_jax.evaluation.influence import linearise
from ttl_jax.evaluation.intervals import Spread, score_interval, spread
from ttl_jax.evaluation.multiple import holm
from ttl_jax.evaluation.predictions import Predictions
from ttl_jax.typing import Bool, Float, Shaped

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Subgroup:
    """One value of a column: how many examples and patients, and how well it does."""

    column: str
    value: str
    examples: int
    patients: int
    auroc: Interval
    accuracy: Interval


@dataclass(frozen=True)
class Gap:
    """A column whose values are compared in one figure.

    Attributes:
        column: name of the column.
        metric, title: the figure.
        values: the subgroups in which it is defined; "unknown" is none.
        gap: highest figure less the lowest one.
        p: that all subgroups have the same figure.
        p_holm: the same after Holm's correction for all columns and figures.
        worst: the subgroup with the lowest figure.
        estimate, low, high: its figure, and an interval that allows for its being picked out.
    """

    column: str
    metric: str
    title: str
    values: tuple[str, ...]
    gap: float
    p: float
    p_holm: float
    worst: str
    estimate: float
    low: float
    high: float


def subgroups(
    predictions: Predictions,
    columns: Mapping[str, Shaped[np.ndarray, "n"]] | None = None,
    *,
    bins: int = 4,
    most: int = 12,
) -> tuple[Subgroup, ...]:
    """Scores every value of every column apart, with 95 % intervals over its patients.

    A column of numbers with more than `most` values (ages) is cut into `bins` at its quantiles,
    rounded; a column of texts with more than `most` values (names) says nothing about groups and is
    left out. Empty cells are "unknown". A subgroup without both classes has no AUROC.

    Args:
        predictions: logits and labels of one split.
        columns: (N,) each; None takes those that the prediction file holds.

    Raises:
        ValueError: a column of another length.
    """
    parts = []
    for name, cells in (predictions.columns if columns is None else columns).items():
        cells = np.asarray(cells)
        if len(cells) != len(predictions):
            raise ValueError(f"column {name!r} has {len(cells)} cells for {len(predictions)} examples")
        for value, members in _parts(cells.astype(str), bins, most):
            parts.append(_subgroup(predictions, name, value, members))
    return tuple(parts)


def gaps(
    predictions: Predictions,
    columns: Mapping[str, Shaped[np.ndarray, "n"]] | None = None,
    *,
    metrics: Sequence[str] = ("auroc", "accuracy"),
    level: float = 0.95,
) -> tuple[Gap, ...]:
    """Test whether the subgroups of each column have the same figure.

    Welch's test (1951, Biometrika 38:330) of the subgroups' figures, with the variance that each would have
    at their common figure: a score test, whose variance is not 0 where a small subgroup is all right.
    Variances are those of `score_interval`, over patients. Of the worst of G subgroups the interval is that
    of level 1 - (1 - level) / G (Bonferroni): it covers whichever is picked.

    Args:
        predictions: logits and labels of one split.
        columns: (N,) each, cut into subgroups as by `subgroups`; None takes the prediction file's.
        metrics: names of bounded metrics that have `terms`.
        level: of the interval.

    Returns:
        A row a column and figure; without those that fewer than two subgroups define.
    """
    tested = []
    for name, cells in (predictions.columns if columns is None else columns).items():
        parts = [part for part in _parts(np.asarray(cells).astype(str), 4, 12) if part[0] != UNKNOWN]
        for metric in metrics:
            gap = _gap(predictions, name, parts, metric, level)
            tested += [gap] if gap else []
    corrected = holm([each.p for each in tested]).tolist()
    return tuple(replace(each, p_holm=p) for each, p in zip(tested, corrected, strict=True))


def _gap(
    held: Predictions, column: str, parts: list[tuple[str, Bool[np.ndarray, "n"]]], metric: str, level: float
) -> Gap | None:
    known = [(value, members, each) for value, members in parts if (each := _spread(held, members, metric))]
    if len(known) < 2:
        return None
    figures = np.array([each.theta for *_, each in known])
    worst = int(figures.argmin())
    value, members, _ = known[worst]
    given = held.labels[members], held.logits[members], metric, held.groups[members]
    own = score_interval(*given, task=held.task, level=1 - (1 - level) / len(known))
    if own.estimate is None or own.low is None or own.high is None:
        return None
    p = _same(figures, [each for *_, each in known])
    return Gap(
        column, metric, registry.metric(metric).title, tuple(value for value, *_ in known),
        float(np.ptp(figures)), p, p, value, own.estimate, own.low, own.high,
    )  # fmt: skip


def _spread(held: Predictions, members: Bool[np.ndarray, "n"], metric: str) -> Spread | None:
    part = linearise(held.labels[members], held.logits[members], metric, held.task)
    place = np.unique(held.groups[members], return_inverse=True)[1]
    if part is None or place.max() < 1:
        return None
    return spread(part, place, registry.metric(metric).bounds, 0.95)


def _same(figures: Float[np.ndarray, "g"], spreads: Sequence[Spread]) -> float:
    """p of Welch's test, with the variances at the common figure."""
    from scipy import stats

    common = float(figures.mean())
    for _ in range(5):  # the weights are those at the common figure, which is their mean
        inside = min(max(common, 1e-3), 1 - 1e-3)
        weights = 1 / np.array([each.variance(inside) for each in spreads])
        common = float(weights @ figures / weights.sum())
    count, freedom = len(figures), np.array([each.patients - 1 for each in spreads])
    between = float(weights @ (figures - common) ** 2) / (count - 1)
    spare = float(((1 - weights / weights.sum()) ** 2 / freedom).sum())
    statistic = between / (1 + 2 * (count - 2) / (count**2 - 1) * spare)
    return float(stats.f.sf(statistic, count - 1, (count**2 - 1) / (3 * spare)))


def _parts(cells: np.ndarray, bins: int, most: int) -> list[tuple[str, np.ndarray]]:
    texts = np.char.strip(cells)
    unknown = np.isin(np.char.lower(texts), ("", "nan", "na", "none", UNKNOWN))
    values = np.unique(texts[~unknown])
    parts: list[tuple[str, np.ndarray]] = []
    if len(values) <= most:
        parts = [(str(value), (texts == value) & ~unknown) for value in values]
    else:
        try:
            numbers = np.where(unknown, "nan", texts).astype(np.float64)
        except ValueError:
            return []
        known = numbers[~unknown]
        edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1]).round(0))
        place = np.searchsorted(edges, numbers, side="right")
        between = [f"{a:g} to below {b:g}" for a, b in zip(edges, edges[1:], strict=False)]
        names = [f"below {edges[0]:g}", *between, f"{edges[-1]:g} and above"]
        parts = [(text, (place == number) & ~unknown) for number, text in enumerate(names)]
    parts = [part for part in parts if part[1].any()]
    return parts + ([(UNKNOWN, unknown)] if unknown.any() and parts else [])


def _subgroup(predictions: Predictions, column: str, value: str, members: np.ndarray) -> Subgroup:
    def interval(metric: str) -> Interval:
        return score_interval(
            predictions.labels[members],
            predictions.logits[members],
            metric,
            predictions.groups[members],
            task=predictions.task,
        )

    patients = len(set(predictions.groups[members].tolist()))
    return Subgroup(column, value, int(members.sum()), patients, interval("auroc"), interval("accuracy"))
