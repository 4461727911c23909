"""Strategies of a comparison by their decisions and probabilities, from their prediction files."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ttl_jax.evaluation.brier import brier_parts
from ttl_jax.evaluation.calibration import calibration, fit_temperature
from ttl_jax.evaluation.paired import mcnemar
from ttl_jax.evaluation.predictions import Predictions
from ttl_jax.evaluation.thresholds import operating_point, threshold_at
from ttl_jax.report.comparison.text import Record
from ttl_jax.report.read import look_up
from ttl_jax.report.rows import Value

# (folder of a cell, split) -> its predictions, None where there is no such file
Held = Callable[[str, str], "Predictions | None"]


@dataclass(frozen=True)
class DecisionTest:
    """A strategy's decisions against the reference's on the same test examples.

    only_it, only_reference: examples that one alone has right, mean over seeds. difference (with low, high,
    p, after Holm): in accuracy, over patients and seeds, of compare.json; None in an older one. caveat: why
    nothing can be claimed from it. mcnemar: exact p-value of each seed, which takes images as independent and
    speaks of that seed alone.
    """

    dataset: str
    model: str
    strategy: str
    only_it: float
    only_reference: float
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    caveat: str
    mcnemar: tuple[float, ...]


@dataclass(frozen=True)
class Trust:
    """The calibration and operating points of a setting: means and spreads over its cells.

    sensitivity: at a specificity of 0.90 chosen on validation; specificity: at a sensitivity of 0.95.
    Both, and the figures after temperature scaling, are None where they are not defined.
    """

    dataset: str
    model: str
    strategy: str
    brier: Value | None
    reliability: Value | None
    resolution: Value | None
    ece: Value | None
    adaptive_ece: Value | None
    temperature: Value | None
    ece_after: Value | None
    sensitivity: Value | None
    specificity: Value | None


def decision_tests(comparison: Record, held: Held) -> tuple[DecisionTest, ...]:
    """Every strategy against the reference, where both have predictions of the same seeds; labels that
    are not exclusive have no single decision and are left out."""
    reference = comparison["statistics"]["reference"]
    base = {(each["dataset"], each["model"]): each for each in comparison["settings"]
            if each["strategy"] == reference}  # fmt: skip
    tested = {(each["dataset"], each["model"], each["strategy"]): each
              for each in look_up(comparison, "statistics", "decisions") or ()}  # fmt: skip
    made = []
    for each in comparison["settings"]:
        place = each["dataset"], each["model"]
        if each["strategy"] != reference and place in base:
            key = *place, each["strategy"]
            test = _test(each, base[place], held, tested[key] if key in tested else {})
            if test is not None:
                made.append(test)
    return tuple(made)


def _test(mine: Record, theirs: Record, held: Held, difference: Record) -> DecisionTest | None:
    its = {(cell["seed"], cell["fold"]): cell for cell in theirs["cells"]}
    seeds: dict[int, list[tuple[Predictions, Predictions]]] = {}  # of each seed all folds
    for cell in mine["cells"]:
        if (cell["seed"], cell["fold"]) in its:
            one = held(cell["folder"], "test")
            other = held(its[cell["seed"], cell["fold"]]["folder"], "test")
            if one is None or other is None or one.task != "multiclass" or list(one.ids) != list(other.ids):
                return None
            seeds.setdefault(cell["seed"], []).append((one, other))
    if not seeds:
        return None
    tests = []
    for pairs in seeds.values():
        right, other_right = (np.concatenate([_right(pair[side]) for pair in pairs]) for side in (0, 1))
        tests.append(mcnemar(right, other_right))
    return DecisionTest(
        dataset=mine["dataset"] or "data",
        model=mine["model"],
        strategy=mine["strategy"],
        only_it=statistics.fmean(each.only_a for each in tests),
        only_reference=statistics.fmean(each.only_b for each in tests),
        difference=look_up(difference, "estimate"),
        low=look_up(difference, "low"),
        high=look_up(difference, "high"),
        p=look_up(difference, "p_holm"),
        caveat=look_up(difference, "caveat") or "",
        mcnemar=tuple(each.p for each in tests),
    )


def _right(held: Predictions) -> np.ndarray:
    return held.logits.argmax(axis=1) == held.labels


def trusts(comparison: Record, held: Held) -> tuple[Trust, ...]:
    """One row a setting that has test predictions."""
    made = []
    for each in comparison["settings"]:
        cells = [_cell(held(cell["folder"], "val"), held(cell["folder"], "test")) for cell in each["cells"]]
        known = [cell for cell in cells if cell is not None]
        if known:
            values = [_value([cell[place] for cell in known]) for place in range(len(known[0]))]
            made.append(Trust(each["dataset"] or "data", each["model"], each["strategy"], *values))
    return tuple(made)


def _cell(validation: Predictions | None, test: Predictions | None) -> tuple[float | None, ...] | None:
    """The figures of one cell, in the order of `Trust`."""
    if test is None or not len(test):
        return None
    given = test.labels, test.logits, test.task
    parts = brier_parts(*given)
    brier = (None,) * 3 if parts is None else (parts.brier, parts.reliability, parts.resolution)
    eces = calibration(*given).ece, calibration(*given, adaptive=True).ece
    if validation is None or not len(validation):
        return (*brier, *eces, None, None, None, None)
    temperature = fit_temperature(validation.labels, validation.logits, validation.task)
    after = calibration(test.labels, test.logits / temperature, test.task).ece
    return (*brier, *eces, temperature, after, *_operating(validation, test))


def _operating(validation: Predictions, test: Predictions) -> tuple[float | None, float | None]:
    """Sensitivity and specificity of a two-class task at the two aims; None for other tasks."""
    if test.task != "multiclass" or len(test.class_names) != 2 or len(set(validation.labels.tolist())) < 2:
        return None, None
    before, now = (each.logits[:, 1] - each.logits[:, 0] for each in (validation, test))
    specific = threshold_at(validation.labels, before, specificity=0.90)
    sensitive = threshold_at(validation.labels, before, sensitivity=0.95)
    return (
        operating_point(test.labels, now, specific).sensitivity,
        operating_point(test.labels, now, sensitive).specificity,
    )


def _value(values: Sequence[float | None]) -> Value | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Value(statistics.fmean(known), len(known), statistics.stdev(known) if len(known) > 1 else None)
