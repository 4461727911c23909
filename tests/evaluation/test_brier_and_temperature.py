from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize
from sklearn.metrics import brier_score_loss, log_loss

from ttl_jax.evaluation import (
    brier_decomposition,
    brier_parts,
    calibration,
    fit_temperature,
    probabilities,
    score,
)


def test_murphys_three_parts_add_up_exactly_without_bins():
    random = np.random.default_rng(0)
    chances = random.integers(0, 11, size=300) / 10
    labels = (random.random(300) < chances**2).astype(int)
    found = brier_decomposition(labels, chances, bins=None)
    assert found.brier == pytest.approx(brier_score_loss(labels, chances))
    assert found.within == pytest.approx(0, abs=1e-12)
    parts = [(chances == value) for value in np.unique(chances)]
    share = [part.mean() for part in parts]
    event = [labels[part].mean() for part in parts]
    assert found.reliability == pytest.approx(
        sum(n * (chances[part][0] - e) ** 2 for n, e, part in zip(share, event, parts, strict=True))
    )
    assert found.resolution == pytest.approx(
        sum(n * (e - labels.mean()) ** 2 for n, e in zip(share, event, strict=True))
    )
    assert found.brier == pytest.approx(found.reliability - found.resolution + found.uncertainty)


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_with_bins_the_rest_is_told(bins):
    random = np.random.default_rng(1)
    chances, labels = random.random(200), random.integers(2, size=200)
    found = brier_decomposition(labels, chances, bins)
    total = found.reliability - found.resolution + found.uncertainty + found.within
    assert found.brier == pytest.approx(total)


def test_forecasts_that_come_true_are_reliable():
    chances = np.repeat([0.25, 0.75], 40)
    labels = np.tile([1, 0, 0, 0], 10).tolist() + np.tile([1, 1, 1, 0], 10).tolist()
    found = brier_decomposition(np.array(labels), chances)
    assert found.reliability == pytest.approx(0) and found.resolution == pytest.approx(0.0625)
    with pytest.raises(ValueError, match="labels 0 and 1"):
        brier_decomposition(np.array([2, 0]), np.array([0.1, 0.2]))


def test_bins_of_equal_count():
    random = np.random.default_rng(2)
    logits = random.normal(size=(150, 3)) * 3
    labels = random.integers(3, size=150)
    found = calibration(labels, logits, bins=10, adaptive=True)
    assert found.count.tolist() == [15] * 10
    p = probabilities(logits, "multiclass")
    order = np.argsort(p.max(axis=1), kind="stable")
    right = (p.argmax(axis=1) == labels)[order]
    gaps = [
        abs(right[i : i + 15].mean() - np.sort(p.max(axis=1))[i : i + 15].mean()) for i in range(0, 150, 15)
    ]
    assert found.ece == pytest.approx(np.mean(gaps))
    assert calibration(labels[:4], logits[:4], bins=10, adaptive=True).count.sum() == 4


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_temperature_has_the_least_loss(task):
    random = np.random.default_rng(3)
    if task == "multiclass":
        logits = random.normal(size=(400, 4))
        labels = np.array([random.choice(4, p=p) for p in probabilities(logits, task)])
    else:
        logits = random.normal(size=(400, 3))
        labels = (random.random((400, 3)) < probabilities(logits, task)).astype(float)
        labels[random.random(labels.shape) < 0.2] = np.nan
    sharp = logits * 2.5  # over-confident by a factor that is known

    def loss(t):
        p = probabilities(sharp / t, task)
        if task == "multiclass":
            return log_loss(labels, p, labels=range(4))
        known = ~np.isnan(labels)
        return log_loss(labels[known], p[known])

    found = fit_temperature(labels, sharp, task)
    assert found == pytest.approx(2.5, rel=0.2)
    reference = optimize.minimize_scalar(loss, bounds=(0.5, 10), method="bounded", options={"xatol": 1e-9}).x
    assert found == pytest.approx(reference, rel=1e-4)


def test_what_is_always_right_is_sharpened_to_the_limit():
    logits = np.array([[2.0, 0.0], [0.0, 2.0]])
    assert 0.01 <= fit_temperature(np.array([0, 1]), logits) < 0.1
    assert 50 < fit_temperature(np.array([1, 0]), logits) <= 100
    with pytest.raises(ValueError, match="no examples"):
        fit_temperature(np.empty(0, int), np.empty((0, 2)))


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_parts_of_several_classes_add_up_to_the_brier_score(task):
    random = np.random.default_rng(5)
    logits = random.normal(size=(90, 3)) * 2
    labels = random.integers(3, size=90)
    if task == "multilabel":
        labels = random.integers(2, size=(90, 3)).astype(float)
        labels[random.random(labels.shape) < 0.2] = np.nan
    found = brier_parts(labels, logits, task)
    assert found.brier == pytest.approx(score(labels, logits, "abc", task)["brier"])
    assert found.brier == pytest.approx(
        found.reliability - found.resolution + found.uncertainty + found.within
    )
    assert found.uncertainty > 0.1 and brier_parts(labels[:0], logits[:0], task) is None
