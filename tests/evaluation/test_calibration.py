from __future__ import annotations

import numpy as np
import pytest

from ttl_jax.evaluation import calibration


def logits_of(chances):
    return np.log(np.asarray(chances, dtype=np.float64))


def test_bins_by_hand():
    chances = [[0.95, 0.05], [0.85, 0.15], [0.3, 0.7], [0.45, 0.55]]
    found = calibration(np.array([0, 1, 1, 1]), logits_of(chances), bins=5)
    assert found.edges == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert found.count.tolist() == [0, 0, 1, 1, 2]
    assert np.isnan(found.accuracy[0]) and np.isnan(found.confidence[0])
    assert found.confidence[2:] == pytest.approx([0.55, 0.7, 0.9])
    assert found.accuracy[2:] == pytest.approx([1, 1, 0.5])
    assert found.ece == pytest.approx((0.45 + 0.3 + 2 * 0.4) / 4)


def test_ece_against_a_loop_over_examples():
    random = np.random.default_rng(1)
    logits = random.normal(size=(200, 3)) * 2
    labels = random.integers(3, size=200)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    total = 0.0
    for low in range(15):
        inside = [
            (row.max(), row.argmax() == label)
            for row, label in zip(chances, labels, strict=True)
            if low / 15 < row.max() <= (low + 1) / 15
        ]
        if inside:
            confidence, right = np.array(inside, dtype=float).T
            total += len(inside) * abs(confidence.mean() - right.mean())
    assert calibration(labels, logits).ece == pytest.approx(total / 200)


def test_multilabel_counts_known_entries_as_two_class_problems():
    labels = np.array([[1, np.nan], [0, 1]])
    chances = np.array([[0.9, 0.5], [0.9, 0.3]])
    found = calibration(labels, np.log(chances / (1 - chances)), "multilabel", bins=10)
    # .9 right, .9 wrong, and .3 for a present label: .7, wrong
    assert found.count.sum() == 3
    assert found.ece == pytest.approx((2 * abs(0.9 - 0.5) + 0.7) / 3)


def test_nothing_to_count():
    assert calibration(np.zeros(0, int), np.zeros((0, 2))).ece is None


def test_a_confidence_on_an_edge_falls_into_the_bin_below():
    # Guo et al. 2017: bin m is ((m - 1) / M, m / M]
    assert calibration(np.array([0]), np.zeros((1, 2)), bins=2).count.tolist() == [1, 0]
    assert calibration(np.array([0]), np.array([[900.0, 0]]), bins=2).count.tolist() == [0, 1]
