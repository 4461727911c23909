"""Slopes and shifts against scikit-learn's logistic regression, and on data whose miscalibration is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ttl_jax.evaluation import Predictions, questions, score
from ttl_jax.evaluation.recalibration import _fit, calibration_line, recalibrated


def hospital(n, scale, shift, seed=0, classes=2):
    """Labels drawn from softmax(logits), and logits that a model gives: divided by scale, less shift."""
    random = np.random.default_rng(seed)
    true = random.normal(size=(n, classes)) * 1.5
    chances = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    labels = (random.random((n, 1)) > np.cumsum(chances, axis=1)).sum(axis=1)
    ids = np.arange(n).astype(str)
    logits = (true - np.asarray(shift)) / scale
    names = tuple("abcdef"[:classes])
    return Predictions(ids, ids, labels, logits, names, "multiclass")


def test_the_line_is_logistic_regressions():
    held = hospital(3000, 0.5, [0, 0.4])
    (question,) = questions(held)
    line = calibration_line(question)
    model = LogisticRegression(C=np.inf, tol=1e-10).fit(question.odds[:, None], question.truth)
    assert line.slope == pytest.approx(model.coef_[0, 0], abs=1e-4)
    assert line.low < 0.5 < line.high and line.high - line.low < 0.1  # the truth is the scale
    # in the large: the mean of the moved probabilities is the prevalence
    moved = 1 / (1 + np.exp(-(question.odds + line.in_the_large)))
    assert moved.mean() == pytest.approx(question.truth.mean(), abs=1e-6)


def test_copies_of_a_patient_do_not_narrow_the_slope():
    held = hospital(400, 1.0, [0, 0])
    (question,) = questions(held)
    alone = calibration_line(question)
    copied = type(question)(question.name, *(np.repeat(x, 5) for x in (question.truth, question.odds,
                            question.groups)))  # fmt: skip
    again = calibration_line(copied)
    assert again.slope == pytest.approx(alone.slope)
    assert (again.high - again.low) == pytest.approx(alone.high - alone.low, rel=0.02)


def test_classes_told_apart_or_absent_have_no_line():
    ids = np.array(["a", "b", "c", "d"])
    for labels in ([0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]):
        held = Predictions(ids, ids, np.array(labels), np.eye(2)[[0, 0, 1, 1]] * 3, ("a", "b"), "multiclass")
        assert calibration_line(questions(held)[0]).slope is None


@pytest.mark.parametrize("classes", [2, 4])
def test_scale_and_shifts_are_found_again(classes):
    shift = np.linspace(0, 1.5, classes)
    held = hospital(40_000, 0.4, shift, classes=classes)
    scale, shifts = _fit(held.labels, held.logits)
    assert scale == pytest.approx(0.4, abs=0.02)
    np.testing.assert_allclose(shifts, shift - shift[0], atol=0.06)


def test_what_is_recalibrated_is_judged_on_other_patients():
    held = hospital(600, 0.3, [0, 1.2, -0.5], classes=3)
    before, after = (
        score(held.labels, logits, held.class_names, held.task)
        for logits in (held.logits, recalibrated(held))
    )
    truth = hospital(600, 1.0, [0, 0, 0], classes=3)  # the same draws, calibrated
    best = score(truth.labels, truth.logits, truth.class_names, truth.task)
    assert after["loss"] < before["loss"] - 0.1 and after["ece"] < before["ece"]
    assert best["loss"] - 0.005 < after["loss"] < best["loss"] + 0.03
    # on noise, fitting and judging alike would find something; folds of whole patients do not
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(10), 6).astype(str)
    labels, logits = random.integers(3, size=10).repeat(6), random.normal(size=(10, 3)).repeat(6, axis=0)
    noise = Predictions(groups, groups, labels, logits, ("a", "b", "c"), "multiclass")
    fitted = score(noise.labels, recalibrated(noise), noise.class_names, noise.task)["loss"]
    assert fitted > np.log(3) - 0.15


def test_labels_are_recalibrated_one_by_one_and_unknown_ones_left_out():
    held = hospital(4000, 0.5, [0, 0.7])
    odds = held.logits[:, 1] - held.logits[:, 0]
    labels = np.stack([held.labels, 1 - held.labels], axis=1).astype(float)
    labels[::3, 1] = np.nan
    several = Predictions(
        held.ids, held.groups, labels, np.stack([odds, -odds], axis=1), ("x", "y"), "multilabel"
    )
    made = recalibrated(several)
    (wanted,) = questions(Predictions(held.ids, held.groups, held.labels, recalibrated(held), ("a", "b"),
                                      "multiclass"))  # fmt: skip
    np.testing.assert_allclose(made[:, 0], wanted.odds, atol=1e-3)
    for place in range(2):
        known = ~np.isnan(labels[:, place])
        chances = 1 / (1 + np.exp(-made[known, place]))
        assert chances.mean() == pytest.approx(labels[known, place].mean(), abs=0.01)
