"""LogME, H-score, LEEP and the ridge probe against slow, direct forms of the same quantities."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.preprocessing import StandardScaler

from ttl_jax.analysis import h_score, leep, logme, ridge_probe
from ttl_jax.errors import UserError


def task(n=60, d=5, classes=3, strength=1.0, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    return rng.normal(size=(n, d)) + strength * rng.normal(size=(classes, d))[y], y


@pytest.mark.parametrize(("n", "d"), [(60, 5), (20, 40)])
def test_logme_is_the_maximum_of_the_evidence(n, d):
    """The evidence is a normal density of the targets: N(y; 0, I / beta + F F' / alpha)."""
    x, y = task(n, d)
    best = []
    for number in range(3):
        target = (y == number).astype(float)

        def minus(log_precisions, target=target):
            alpha, beta = np.exp(log_precisions)
            return -multivariate_normal.logpdf(target, np.zeros(n), np.eye(n) / beta + x @ x.T / alpha)

        tries = [minimize(minus, start, method="Nelder-Mead") for start in ((0.0, 0.0), (3.0, 2.0))]
        best.append(-min(found.fun for found in tries) / n)
    assert logme(x, y) == pytest.approx(np.mean(best), abs=2e-4)


def test_ridge_leaves_one_out_in_closed_form():
    x, y = task(25, 6)
    found = ridge_probe(x, y, alphas=(0.02,))
    targets = np.where(y[:, None] == np.arange(3), 1.0, -1.0)
    scaled = StandardScaler().fit_transform(x)  # the scale is that of all examples, in both
    for left in range(0, 25, 4):
        rest = np.arange(25) != left
        slow = SklearnRidge(alpha=0.02 * 25).fit(scaled[rest], targets[rest])
        np.testing.assert_allclose(found.left_out[left], slow.predict(scaled[[left]])[0], atol=1e-8)
    whole = SklearnRidge(alpha=0.02 * 25).fit(scaled, targets)
    np.testing.assert_allclose(found(x), whole.predict(scaled), atol=1e-10)


def test_ridge_takes_the_penalty_with_the_least_left_out_error():
    x, y = task(40, 60, strength=0.5)
    alphas = (1e-6, 1e-2, 1.0, 100.0)
    targets = np.where(y[:, None] == np.arange(3), 1.0, -1.0)
    errors = {a: np.mean((ridge_probe(x, y, alphas=(a,)).left_out - targets) ** 2) for a in alphas}
    assert ridge_probe(x, y, alphas=alphas).alpha == min(errors, key=errors.get)


def test_h_score_by_its_definition():
    x, y = task(200, 4)
    centred = x - x.mean(0)
    given = np.stack([centred[y == label].mean(0) for label in y])  # E[f | y] of every example
    expected = np.trace(np.linalg.inv(np.cov(centred.T, bias=True)) @ np.cov(given.T, bias=True))
    assert h_score(x, y, shrink=False) == pytest.approx(expected, rel=1e-9)
    estimate = LedoitWolf(assume_centered=True).fit(centred)
    shrunk = (1 - estimate.shrinkage_) * np.trace(estimate.precision_ @ np.cov(given.T, bias=True))
    assert h_score(x, y) == pytest.approx(shrunk, rel=1e-9)


def test_h_score_without_shrinkage_reaches_classes_less_one():
    _, y = task(300)
    assert h_score(np.eye(3)[y] @ np.diag([1.0, 2.0, 3.0]), y, shrink=False) == pytest.approx(2.0)


def test_leep_by_hand():
    theta = np.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]])
    y = np.array([0, 1, 1])
    # P(z) = (0.5, 0.5); P(y=0 | z) = (0.8, 0.2) / 1.5
    first = 0.8 * 0.8 / 1.5 + 0.2 * 0.2 / 1.5
    second = 0.6 * 0.7 / 1.5 + 0.4 * 1.3 / 1.5
    third = 0.1 * 0.7 / 1.5 + 0.9 * 1.3 / 1.5
    assert leep(theta, y) == pytest.approx(np.mean(np.log([first, second, third])), rel=1e-9)
    assert leep(np.eye(2)[[0, 1, 1]], y) == pytest.approx(0.0, abs=1e-12)


def test_all_of_them_rank_strong_features_above_weak_ones():
    strong, weak = task(200, strength=1.5), task(200, strength=0.2)
    for measure in (logme, h_score):
        assert measure(*strong) > measure(*weak)

    def accuracy(x, y):
        return np.mean(ridge_probe(x, y).left_out.argmax(1) == y)

    assert accuracy(*strong) > accuracy(*weak) + 0.2


@pytest.mark.parametrize("measure", [ridge_probe, logme, h_score])
def test_bad_input_is_refused(measure):
    x, y = task()
    with pytest.raises(UserError, match="are not"):
        measure(x, y[:-1])
    with pytest.raises(UserError, match="whole numbers"):
        measure(x, y.astype(float))
    with pytest.raises(UserError, match="of one class"):
        measure(x, 0 * y)
    with pytest.raises(UserError, match="not finite"):
        measure(x * np.nan, y)


def test_leep_refuses_what_is_no_probability():
    with pytest.raises(UserError, match="sum to 1"):
        leep(np.ones((3, 2)), np.array([0, 1, 1]))
