"""Decisions on the reported split, at thresholds chosen on validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttl_jax.evaluation.intervals import Proportion, clustered_proportion
from ttl_jax.evaluation.predictions import Predictions, Question, questions
from ttl_jax.evaluation.thresholds import operating_point, threshold_at

# (kind, value) fixed on validation
AIMS = (("sensitivity", 0.90), ("sensitivity", 0.95), ("specificity", 0.90), ("specificity", 0.95))
MAX_CLASSES = 8  # those with most examples; more rows nobody reads


@dataclass(frozen=True)
class OperatingRow:
    """One class and aim.

    threshold: probability of the class from which it is said to be there; above 1 (as infinity) where
    no score of validation is high enough. validation: sensitivity and specificity there. The others are
    of the reported split; predictive values are those at its own prevalence.
    """

    name: str
    aim: str
    threshold: float
    validation: tuple[float | None, float | None]
    sensitivity: Proportion
    specificity: Proportion
    positive_value: Proportion
    negative_value: Proportion


def operating_rows(validation: Predictions, reported: Predictions) -> tuple[OperatingRow, ...]:
    """A row a class and aim, for the classes that validation has examples inside and outside of."""
    pairs = zip(questions(validation), questions(reported), strict=True)
    known = [pair for pair in pairs if 0 < pair[0].truth.sum() < len(pair[0].truth)]
    known.sort(key=lambda pair: -pair[0].truth.sum())
    return tuple(_row(chosen, seen, *aim) for chosen, seen in known[:MAX_CLASSES] for aim in AIMS)


def _row(chosen: Question, seen: Question, kind: str, value: float) -> OperatingRow:
    at = threshold_at(chosen.truth, chosen.odds, **{kind: value})
    before = operating_point(chosen.truth, chosen.odds, at)
    said = seen.odds >= at

    def share(hits: np.ndarray, among: np.ndarray) -> Proportion:
        return clustered_proportion(hits[among], seen.groups[among])

    return OperatingRow(
        seen.name,
        f"{kind} {value:.2f}",
        float(np.exp(-np.logaddexp(0.0, -at))) if np.isfinite(at) else np.inf,
        (before.sensitivity, before.specificity),
        share(said, seen.truth),
        share(~said, ~seen.truth),
        share(seen.truth, said),
        share(~seen.truth, ~said),
    )
