"""Calibration at another hospital: its intercept and slope, and what refitting a few numbers mends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttl_jax.evaluation.predictions import Predictions, Question
from ttl_jax.evaluation.probability import Task, checked_labels, checked_logits, probabilities
from ttl_jax.typing import Float, Shaped

FOLDS = 5
_SCALE, _SHIFT = (
    (0.01, 100.0),
    30.0,
)  # bounds, towards which the fit goes where classes are told apart without error


@dataclass(frozen=True)
class CalibrationLine:
    """Weak calibration of one class against the rest (Cox 1958; Van Calster et al. 2019, BMC Med. 17:230).

    Attributes:
        name: name of the class.
        in_the_large: intercept at slope 1: above 0 the class is more frequent than the probabilities say.
        slope: of the log odds: below 1 the probabilities are too extreme.
        low, high: 95 % interval of the slope over patients (sandwich). All are None where there is no fit.
    """

    name: str
    in_the_large: float | None
    slope: float | None
    low: float | None
    high: float | None


def calibration_line(question: Question) -> CalibrationLine:
    """Fit a class's truth to the log odds that the model gave it.

    Args:
        question: one of `questions`, of calibrated logits.
    """
    import statsmodels.api as sm

    truth, odds = question.truth.astype(np.float64), question.odds
    ups, downs = odds[question.truth], odds[~question.truth]
    nothing = CalibrationLine(question.name, None, None, None, None)
    if not len(ups) or not len(downs) or ups.min() >= downs.max() or ups.max() <= downs.min():
        return nothing  # absent, or told apart without error: the slope is infinite
    family, members = sm.families.Binomial(), np.unique(question.groups, return_inverse=True)[1]
    if members.max() < 1:
        return nothing
    with np.errstate(all="ignore"):
        whole = sm.GLM(truth, np.ones((len(truth), 1)), family=family, offset=odds).fit()
        line = sm.GLM(truth, sm.add_constant(odds, has_constant="add"), family=family).fit(
            cov_type="cluster", cov_kwds={"groups": members}
        )
    low, high = line.conf_int()[1]
    return CalibrationLine(
        question.name, float(whole.params[0]), float(line.params[1]), float(low), float(high)
    )


def recalibrated(held: Predictions, seed: int = 0) -> Float[np.ndarray, "n c"]:
    """Logits after bias-corrected temperature scaling on the same data, each patient by the others' fit.

    One temperature, and a shift for each class that takes up another prevalence (Alexandari, Kundaje &
    Shrikumar 2020, "Maximum likelihood with bias-corrected calibration is hard-to-beat at label shift
    adaptation"); of two classes that is Platt's scaling, of several labels Platt's of each. Five folds of
    whole patients: fitted and judged on the same ones it would flatter.

    Args:
        held: predictions of the other data set.
        seed: of the folds.
    """
    names, place = np.unique(held.groups, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(names))[place] % FOLDS
    made = np.array(held.logits, np.float64)
    for number in range(FOLDS):
        out = fold == number
        if out.any() and not out.all():
            made[out] = _rescaled(held.labels[~out], held.logits[~out], held.logits[out], held.task)
    return made


def _rescaled(
    labels: Shaped[np.ndarray, "..."],
    logits: Float[np.ndarray, "n c"],
    others: Float[np.ndarray, "m c"],
    task: Task,
) -> Float[np.ndarray, "m c"]:
    """Fit scale and shifts to some examples and apply them to others."""
    values = checked_logits(logits, task)
    truth = checked_labels(labels, values, task)
    if task == "multiclass":
        scale, shift = _fit(truth, values)
        return scale * others + shift
    made = np.array(others, np.float64)
    for label in range(values.shape[1]):
        known = ~np.isnan(truth[:, label])
        if len(np.unique(truth[known, label])) == 2:
            pair = np.stack([np.zeros(known.sum()), values[known, label]], axis=1)
            scale, shift = _fit(truth[known, label].astype(np.int64), pair)
            made[:, label] = scale * others[:, label] + shift[1] - shift[0]
    return made


def _fit(
    truth: Shaped[np.ndarray, "n"], values: Float[np.ndarray, "n c"]
) -> tuple[float, Float[np.ndarray, "c"]]:
    """The scale and the shifts (the first is 0) of least cross-entropy, which is convex in them."""
    from scipy import optimize

    count, classes = values.shape
    one_hot = np.eye(classes)[truth]

    def loss(numbers: Float[np.ndarray, "c"]) -> tuple[float, Float[np.ndarray, "c"]]:
        scaled = numbers[0] * values + np.concatenate([[0.0], numbers[1:]])
        gap = (probabilities(scaled, "multiclass") - one_hot) / count
        top = scaled.max(axis=1)
        level = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        entropy = float((level - scaled[np.arange(count), truth]).mean())
        return entropy, np.concatenate([[(gap * values).sum()], gap.sum(axis=0)[1:]])

    bounds = [_SCALE] + [(-_SHIFT, _SHIFT)] * (classes - 1)
    start = np.concatenate([[1.0], np.zeros(classes - 1)])
    fitted = optimize.minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return float(fitted[0]), np.concatenate([[0.0], fitted[1:]])
