"""Does it work as well for women, for the old, at the other hospital? Tables by a column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ttl_jax.evaluation.bootstrap import Interval
from ttl_jax.evaluation.intervals import score_interval
from ttl_jax.evaluation.predictions import Predictions
from ttl_jax.typing import Shaped

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
