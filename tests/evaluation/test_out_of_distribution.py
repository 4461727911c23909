"""Distances against scikit-learn's neighbours; a percentile that is uniform for images like validation's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from ttl_jax.evaluation import out_of_distribution as ood


def test_neighbours_are_scikit_learns(monkeypatch):
    random = np.random.default_rng(0)
    training, features = random.normal(size=(300, 20)), 7 * random.normal(size=(45, 20))
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (training, features)]
    wanted, places = NearestNeighbors(n_neighbors=12).fit(unit[0]).kneighbors(unit[1])
    monkeypatch.setattr(ood, "_CELLS", 1000)  # a few rows at a time
    found, distances = ood.nearest(training.astype(np.float16), features, 12)
    assert (found == places).mean() > 0.99  # float16 changes the order of ties
    np.testing.assert_allclose(distances, wanted, atol=2e-3)
    np.testing.assert_allclose(ood.distance(training, features), wanted[:, 9], atol=1e-5)  # the tenth


def test_few_training_images_and_empty_features():
    places, distances = ood.nearest(np.eye(3), np.zeros((2, 3)), 5)
    assert places.shape == (2, 3) and np.isfinite(distances).all()
    assert ood.distance(np.eye(3), np.eye(3)).tolist() == pytest.approx(
        [2**0.5] * 3
    )  # of fewer than k the last
    with pytest.raises(ValueError, match="do not fit"):
        ood.distance(np.eye(3), np.zeros((1, 4)))


def test_one_of_twenty_images_of_the_same_population_is_beyond_the_95th():
    random, beyond = np.random.default_rng(1), []
    for _ in range(400):
        images = random.integers(1, 6, size=120)
        groups = np.repeat(np.arange(120), images)
        shared = random.normal(size=120)[groups] + 0.5 * random.normal(size=len(groups))
        known = groups < 60
        found = ood.percentile(shared[~known], shared[known], groups[known])
        first = np.unique(groups[~known], return_index=True)[1]  # an image a patient
        beyond.append(found[first])
    values = np.concatenate(beyond)
    assert abs((values >= 95).mean() - 0.05) < 0.012 and (values >= 95).mean() < 0.055
    assert abs((values >= 80).mean() - 0.2) < 0.02
    assert stats.kstest(values / 100 * 61 / 60, "uniform").statistic < 0.02


def test_the_percentile_by_hand():
    validation, groups = np.array([0.1, 0.3, 0.2, 0.4]), np.array(["a", "a", "b", "c"])
    found = ood.percentile(np.array([0.05, 0.25, 0.4, 9.0]), validation, groups)
    assert found.tolist() == pytest.approx([0, 100 * 1.5 / 4, 100 * 2 / 4, 100 * 3 / 4])
