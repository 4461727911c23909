"""The ridge probe against scikit-learn's."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from ttl_jax.errors import UserError
from ttl_jax.strategies.parts.ridge import ridge_probe


def problem(classes=3, n=30, d=4):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n) if classes > 2 else (np.arange(n) % 4 == 0).astype(int)  # unbalanced
    return rng.normal(size=(n, d)) * [1, 2, 0.5, 3] + 0.7 * labels[:, None], labels


@pytest.mark.parametrize("classes", [2, 3])
def test_it_scores_new_examples_as_scikit_learn_s(classes):
    features, labels = problem(classes)
    new = np.random.default_rng(1).normal(size=(7, 4))
    targets = np.where(labels[:, None] == np.arange(classes), 1.0, -1.0)
    probe = ridge_probe(features, labels, (0.3,))
    mean, scale = features.mean(0), features.std(0)
    theirs = Ridge(alpha=0.3 * len(labels)).fit((features - mean) / scale, targets)
    np.testing.assert_allclose(probe(new), theirs.predict((new - mean) / scale), rtol=1e-9)


def test_what_is_left_out_is_predicted_as_by_fits_without_it():
    features, labels = problem()
    z = (features - features.mean(0)) / features.std(0)  # standardised once, with all
    targets = np.where(labels[:, None] == np.arange(3), 1.0, -1.0)
    # A penalty of alpha x n for n examples, the intercept free: without one example it is the same penalty.
    theirs = cross_val_predict(Ridge(alpha=0.3 * len(z)), z, targets, cv=LeaveOneOut())
    np.testing.assert_allclose(ridge_probe(features, labels, (0.3,)).left_out, theirs, rtol=1e-9)


def test_the_penalty_is_that_of_the_least_left_out_error():
    features, labels = problem()
    z = (features - features.mean(0)) / features.std(0)
    targets = np.where(labels[:, None] == np.arange(3), 1.0, -1.0)
    penalties = np.logspace(-6, 3, 13)
    theirs = RidgeCV(alphas=penalties * len(z), cv=None).fit(z, targets)
    assert ridge_probe(features, labels).alpha * len(z) == pytest.approx(theirs.alpha_)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[0], y), "features of shape"),
        (lambda x, y: (x, y[:-1]), "labels of shape"),
        (lambda x, y: (x, y[:, None]), "labels of shape"),
        (lambda x, y: (x, y / 2), "whole numbers"),
        (lambda x, y: (np.where(x == x.max(), np.nan, x), y), "not finite"),
        (lambda x, y: (x, y * 0), "all examples are of one class"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        ridge_probe(*change(*problem()))
