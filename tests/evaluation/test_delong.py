from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from ttl_jax.evaluation import delong, delong_covariance


def by_placements(labels, scores):
    """DeLong's equations 4 to 6 as they are printed: every pair is looked at."""
    ups, downs = scores[:, labels == 1], scores[:, labels == 0]
    kernel = (ups[:, :, None] > downs[:, None, :]) + 0.5 * (ups[:, :, None] == downs[:, None, :])
    v10, v01 = kernel.mean(axis=2), kernel.mean(axis=1)
    aurocs = kernel.mean(axis=(1, 2))
    s10 = (v10 - aurocs[:, None]) @ (v10 - aurocs[:, None]).T / (ups.shape[1] - 1)
    s01 = (v01 - aurocs[:, None]) @ (v01 - aurocs[:, None]).T / (downs.shape[1] - 1)
    return aurocs, s10 / ups.shape[1] + s01 / downs.shape[1]


def drawn(n, seed, ties):
    random = np.random.default_rng(seed)
    labels = (random.random(n) < 0.3).astype(int)
    labels[:4] = (0, 0, 1, 1)
    scores = random.normal(size=(3, n)) + np.array([[0.5], [1.0], [0.0]]) * labels
    return labels, scores.round(1) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n", "seed"), [(9, 0), (60, 1), (400, 2)])
def test_midranks_equal_placements(n, seed, ties):
    labels, scores = drawn(n, seed, ties)
    aurocs, covariance = delong_covariance(labels, scores)
    expected = by_placements(labels, scores)
    np.testing.assert_allclose(aurocs, expected[0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(covariance, expected[1], rtol=0, atol=1e-10)
    np.testing.assert_allclose(aurocs, [roc_auc_score(labels, each) for each in scores], atol=1e-12)


def test_the_test_follows_from_the_covariance():
    labels, (a, b, _) = drawn(200, 3, True)
    found = delong(labels, a, b)
    aurocs, s = by_placements(labels, np.stack([a, b]))
    z = (aurocs[0] - aurocs[1]) / np.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1])
    assert found.z == pytest.approx(z, abs=1e-10)
    assert found.p == pytest.approx(2 * stats.norm.cdf(-abs(z)), abs=1e-10)
    assert (found.high - found.low) / 2 == pytest.approx(1.959963984540054 * found.difference / z, abs=1e-10)
    other = delong(labels, b, a)
    assert (other.z, other.p) == (-found.z, found.p)


def test_the_published_interval_of_wfns_in_the_asah_data():
    """pROC's example (Robin et al. 2011, doi:10.1186/1471-2105-12-77): 0.8237 (0.7485-0.8988).

    A score of five grades is all in its table of counts, as printed by table(wfns, outcome).
    """
    good, poor = (37, 20, 3, 8, 4), (2, 12, 1, 8, 18)
    labels = np.repeat([0, 1], [sum(good), sum(poor)])
    grades = np.concatenate([np.repeat(np.arange(1, 6), counts) for counts in (good, poor)])
    aurocs, covariance = delong_covariance(labels, grades[None].astype(float))
    half = 1.959963984540054 * np.sqrt(covariance.item())
    found = [aurocs[0], aurocs[0] - half, aurocs[0] + half]
    np.testing.assert_allclose(found, [0.8237, 0.7485, 0.8988], atol=5e-5)


def test_alike_and_certain():
    labels = np.array([0, 0, 1, 1])
    same = delong(labels, np.arange(4.0), np.arange(4.0) * 7)
    assert (same.z, same.p, same.difference) == (0.0, 1.0, 0.0)
    sure = delong(labels, np.arange(4.0), -np.arange(4.0))  # no variance on either side
    assert sure.difference == 1.0 and sure.p == 0.0


@pytest.mark.parametrize(
    ("labels", "a", "message"),
    [
        ([0, 1, 2, 1], [1, 2, 3, 4], "labels 0 and 1"),
        ([0, 1, 1, 1], [1, 2, 3, 4], "two examples of either class, not 3 and 1"),
        ([0, 0, 1, 1], [1, 2, np.nan, 4], "finite scores"),
        ([0, 0, 1], [1, 2, 3, 4], "do not fit 3 labels"),
    ],
)
def test_wrong_input_is_refused(labels, a, message):
    with pytest.raises(ValueError, match=message):
        delong(np.array(labels), np.array(a, float), np.array(a, float))
