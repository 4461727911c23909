from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_curve

from ttl_jax.evaluation import decision_curve, operating_point, threshold_at


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    labels = (random.random(150) < 0.4).astype(int)
    return labels, (random.normal(size=150) + labels).round(1)


@pytest.mark.parametrize("aim", [0.0, 0.5, 0.8, 0.95, 1.0])
def test_the_best_of_all_thresholds_that_reach_the_aim(data, aim):
    labels, scores = data
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    at = operating_point(labels, scores, threshold_at(labels, scores, sensitivity=aim))
    assert at.sensitivity >= aim - 1e-12
    if aim:
        assert at.specificity == pytest.approx(1 - false[true >= aim - 1e-12].min())
    at = operating_point(labels, scores, threshold_at(labels, scores, specificity=aim))
    assert at.specificity >= aim - 1e-12
    assert at.sensitivity == pytest.approx(true[1 - false >= aim - 1e-12].max())


def test_absent_classes_and_wrong_aims():
    assert operating_point(np.ones(2), np.arange(2.0), 1.0).specificity is None
    for bad in ({}, {"sensitivity": 0.5, "specificity": 0.5}, {"sensitivity": 1.5}):
        with pytest.raises(ValueError):
            threshold_at(np.array([0, 1]), np.arange(2.0), **bad)
    with pytest.raises(ValueError, match="no example"):
        threshold_at(np.zeros(3), np.arange(3.0), sensitivity=0.9)


def test_net_benefit_is_vickers_formula():
    random = np.random.default_rng(1)
    labels, chances = random.integers(2, size=80), random.random(80)
    found = decision_curve(labels, chances, np.array([0.05, 0.2, 0.5, 0.8]))
    for t, model, everyone in zip(found.thresholds, found.model, found.treat_all, strict=True):
        (_, fp), (_, tp) = confusion_matrix(labels, chances >= t)
        assert model == pytest.approx(tp / 80 - fp / 80 * t / (1 - t))
        assert everyone == pytest.approx(labels.mean() - (1 - labels.mean()) * t / (1 - t))
    assert len(decision_curve(labels, chances).model) == 99
    with pytest.raises(ValueError, match="below 1"):
        decision_curve(labels, chances, np.array([1.0]))
