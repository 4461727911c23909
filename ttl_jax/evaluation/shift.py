"""Differences of another data set from a run's validation split, and their effect on its predictions."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ttl_jax.evaluation.calibration import calibration
from ttl_jax.evaluation.conformal import covers, fit_sets
from ttl_jax.evaluation.intervals import clustered_proportion
from ttl_jax.evaluation.metrics import score
from ttl_jax.evaluation.predictions import Predictions, questions
from ttl_jax.evaluation.recalibration import calibration_line, recalibrated
from ttl_jax.typing import Shaped

BINS = 20  # of a histogram of probabilities
COVERAGE = 0.9  # that conformal sets are asked for


def shift(validation: Predictions, here: Predictions, temperature: float) -> dict[str, Any]:
    """Compare predictions with those of validation, as JSON takes it.

    Args:
        validation: the run's predictions of its validation split, as trained.
        here: those of the other data set.
        temperature: the run's, fitted on validation.

    Returns:
        "prevalence": class -> {"validation", "here"}, each the share of known labels with its interval over
            patients;
        "histograms": class -> {"validation", "here"}: counts of its calibrated probability in BINS bins;
        "calibration": ECE, adaptive ECE, loss and Brier score as trained, at the run's temperature and after
            recalibration here (judged on other patients than it was fitted to);
        "lines": the `CalibrationLine` of each class at the run's temperature;
        "conformal": the share that sets of validation, asked for COVERAGE, cover here, and their mean size.
    """
    scaled = {
        "validation": replace(validation, logits=validation.logits / temperature),
        "here": replace(here, logits=here.logits / temperature),
    }
    return {
        "prevalence": {
            name: {key: _prevalence(held, place) for key, held in scaled.items()}
            for place, name in enumerate(here.class_names)
        },
        "histograms": {
            pair[0].name: {
                key: np.histogram(each.chances, BINS, (0, 1))[0].tolist()
                for key, each in zip(scaled, pair, strict=True)
            }
            for pair in zip(*(questions(held) for held in scaled.values()), strict=True)
        },
        "calibration": [
            {"name": name, **_figures(held)}
            for name, held in (
                ("as trained", here),
                (f"at the run's temperature, {temperature:.2f}", scaled["here"]),
                ("recalibrated here", replace(here, logits=recalibrated(here))),
            )
        ],
        "lines": [asdict(calibration_line(each)) for each in questions(scaled["here"])],
        "conformal": _conformal(scaled["validation"], scaled["here"]),
    }


def _prevalence(held: Predictions, place: int) -> dict[str, Any]:
    several = held.task == "multilabel"
    of = held.labels[:, place] if several else held.labels
    known = ~np.isnan(of)
    return asdict(clustered_proportion(of[known] == (1 if several else place), held.groups[known]))


def _figures(held: Predictions) -> dict[str, float | None]:
    scores = score(held.labels, held.logits, held.class_names, held.task)
    adaptive = calibration(held.labels, held.logits, held.task, adaptive=True).ece
    return {"adaptive_ece": adaptive, **{name: scores[name] for name in ("ece", "loss", "brier")}}


def _conformal(validation: Predictions, here: Predictions) -> dict[str, Any]:
    rule = fit_sets(validation, COVERAGE)
    sets = rule.sets(here.probabilities, here.ids)
    hits = covers(sets, here.labels)
    known = ~np.isnan(hits)
    groups: Shaped[np.ndarray, "n"] = here.groups
    if hits.ndim == 2:
        groups = np.repeat(groups, hits.shape[1])[known.ravel()]
    share = clustered_proportion(hits[known] == 1, groups)
    return {
        "asked": COVERAGE,
        **asdict(share),
        "size": float(sets.sum(axis=-1).mean()),
        "notes": list(rule.notes),
    }
