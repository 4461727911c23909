"""SVCCA, PWCCA and CKA against the formulas written another way, and their invariances."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from ttl_jax.analysis import cka, pwcca, random_baseline, svcca
from ttl_jax.errors import UserError


def pair(examples=400, first=8, second=6, shared=3, seed=0):
    """Features with `shared` common sources among others."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(examples, shared))
    sides = []
    for count in (first, second):
        own = rng.normal(size=(examples, count))
        sides.append(common @ rng.normal(size=(shared, count)) + 0.5 * own + rng.normal(size=count))
    return sides


def by_covariances(x, y):
    """Canonical correlations as google/svcca writes them: Sxx^-1/2 Sxy Syy^-1/2."""
    joint = np.cov(np.concatenate([x, y], 1).T)
    k = x.shape[1]
    whiten = [np.linalg.inv(np.real(sqrtm(block))) for block in (joint[:k, :k], joint[k:, k:])]
    return np.linalg.svd(whiten[0] @ joint[:k, k:] @ whiten[1])[1]


def by_qr(x, y):
    q, r = (np.linalg.qr(side - side.mean(0))[0] for side in (x, y))
    return np.linalg.svd(q.T @ r)[1]


def reduced(x, count):
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return u[:, :count] * s[:count]


def test_canonical_correlations_two_other_ways():
    x, y = pair()
    np.testing.assert_allclose(by_covariances(x, y), by_qr(x, y), atol=1e-10)
    assert svcca(x, y, variance=1.0, threshold=1.0) == pytest.approx(by_qr(x, y).mean(), abs=1e-10)


def test_svcca_reduces_both_sides_and_trims_the_tail():
    x, y = pair(first=20, second=15)
    variances = [np.linalg.svd(side - side.mean(0))[1] ** 2 for side in (x, y)]
    counts = [next(k for k in range(1, 99) if v[:k].sum() >= 0.99 * v.sum()) for v in variances]
    assert counts[0] < 20
    found = by_covariances(reduced(x, counts[0]), reduced(y, counts[1]))
    kept = next(k for k in range(1, 99) if found[:k].sum() >= 0.98 * found.sum())
    assert svcca(x, y) == pytest.approx(found[:kept].mean(), abs=1e-9)


def test_pwcca_by_its_formula():
    x, y = pair()
    # the side with fewer features, y, gives the weights
    q, r = (np.linalg.qr(side - side.mean(0))[0] for side in (y, x))
    rotation, found, _ = np.linalg.svd(q.T @ r, full_matrices=False)
    variates = q @ rotation
    weights = np.array(
        [
            sum(abs(variates[:, i] @ (y - y.mean(0))[:, j]) for j in range(y.shape[1]))
            for i in range(len(found))
        ]
    )
    assert pwcca(x, y) == pytest.approx((found * weights).sum() / weights.sum(), abs=1e-10)
    assert pwcca(x, y) == pytest.approx(pwcca(y, x), abs=1e-10)


@pytest.mark.parametrize(("examples", "first"), [(50, 8), (12, 30)])
def test_cka_by_gram_matrices_and_the_hilbert_schmidt_criterion(examples, first):
    x, y = pair(examples=examples, first=first, second=5)
    centre = np.eye(examples) - 1 / examples

    def hsic(a, b):
        return np.trace(a @ a.T @ centre @ b @ b.T @ centre)

    assert cka(x, y) == pytest.approx(hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y)), abs=1e-12)


def test_invariances():
    x, y = pair()
    rng = np.random.default_rng(5)
    rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    mixing = rng.normal(size=(8, 8)) + 3 * np.eye(8)
    for measure in (svcca, pwcca, cka):
        assert measure(x, x) == pytest.approx(1.0, abs=1e-9)
        assert measure(7 * x @ rotation + 3, y) == pytest.approx(measure(x, y), abs=1e-9)
    full = {"variance": 1.0, "threshold": 1.0}
    assert svcca(x @ mixing, y, **full) == pytest.approx(svcca(x, y, **full), abs=1e-9)  # any linear map
    assert abs(cka(x @ mixing, y) - cka(x, y)) > 1e-3  # but not CKA


def test_positions_are_examples_where_maps_are_of_one_size():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(10, 4, 5, 3)), rng.normal(size=(10, 4, 5, 2))
    for measure in (svcca, pwcca, cka):
        assert measure(x, y) == pytest.approx(measure(x.reshape(200, 3), y.reshape(200, 2)), abs=1e-12)
    smaller = rng.normal(size=(10, 2, 2, 2))
    assert svcca(x, smaller) == pytest.approx(svcca(x.mean((1, 2)), smaller.mean((1, 2))), abs=1e-12)


def test_the_random_baseline_lies_below_what_is_shared():
    x, y = pair(shared=6)
    for measure in (svcca, pwcca, cka):
        chance = random_baseline(measure, x, y, repeats=3)
        assert chance.shape == (3,) and chance.max() < measure(x, y) - 0.1
        np.testing.assert_array_equal(chance, random_baseline(measure, x, y, repeats=3))
        assert len(set(chance)) == 3
    # independent normal features, n far above p and q: ||Y'X||^2 is about npq, ||X'X|| about n sqrt(p)
    flat = random_baseline(cka, np.zeros((2000, 10)), np.zeros((2000, 20)), repeats=4)
    assert flat.mean() == pytest.approx(np.sqrt(10 * 20) / 2000, rel=0.35)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.ones((5, 2)), np.ones((4, 2)), "of the same examples"),
        (np.ones(5), np.ones((5, 1)), "of the same examples"),
        (np.ones((5, 2)), np.arange(10.0).reshape(5, 2), "same for every example"),
        (np.full((5, 1), np.nan), np.ones((5, 1)), "not finite"),
    ],
)
def test_what_has_no_similarity_is_refused(x, y, message):
    for measure in (svcca, pwcca, cka):
        with pytest.raises(UserError, match=message):
            measure(x, y)


def test_too_few_examples_are_refused_where_every_correlation_would_be_one():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 30)), rng.normal(size=(9, 30))
    for measure in (svcca, pwcca):
        with pytest.raises(UserError, match="more examples than features"):
            measure(x, y)
    assert 0 < cka(x, y) < 1
