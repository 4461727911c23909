"""Losses and their gradients against NumPy written from the formulas."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax.config import run_config
from ttl_jax.config.run import LossConfig
from ttl_jax.errors import UserError
from ttl_jax.training.loss import binary_cross_entropy, check_loss, cross_entropy, log_prior, make_loss

RNG = np.random.default_rng(0)


def test_weighted_cross_entropy():
    logits, labels = RNG.normal(size=(5, 3)), np.array([0, 2, 1, 2, 0])
    weights = np.array([0.2, 1.0, 3.0])
    shifted = logits - logits.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(5), labels]
    expected = (weights[labels] * losses).sum() / weights[labels].sum()
    found = cross_entropy(jnp.array(logits), jnp.array(labels), jnp.array(weights))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_unknown_labels_count_neither_in_the_loss_nor_in_the_gradient():
    logits = RNG.normal(size=(4, 3))
    labels = np.array([[1, 0, np.nan], [0, np.nan, 1], [1, 1, 0], [np.nan] * 3])
    pos_weight = np.array([1.0, 2.0, 0.5])
    probability = 1 / (1 + np.exp(-logits))
    known = ~np.isnan(labels)
    terms = -(pos_weight * labels * np.log(probability) + (1 - labels) * np.log(1 - probability))
    function = jax.value_and_grad(lambda x: binary_cross_entropy(x, jnp.array(labels), jnp.array(pos_weight)))
    value, gradient = function(jnp.array(logits))
    np.testing.assert_allclose(value, terms[known].sum() / known.sum(), rtol=1e-6)
    slope = (-pos_weight * labels * (1 - probability) + (1 - labels) * probability) / known.sum()
    np.testing.assert_allclose(gradient, np.where(known, slope, 0), rtol=1e-5, atol=1e-8)


def test_nothing_known_is_zero_not_nan():
    labels = jnp.full((2, 2), jnp.nan)
    assert make_loss("multilabel", jnp.ones(2))(jnp.ones((2, 2)), labels) == 0


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_distributions_as_targets_weigh_their_classes():
    logits, target = RNG.normal(size=(4, 3)), softmax(RNG.normal(size=(4, 3)))
    weights = np.array([0.5, 1.0, 2.0])
    expected = -(weights * target * np.log(softmax(logits))).sum() / (weights * target).sum()
    found = cross_entropy(jnp.array(logits), jnp.array(target), jnp.array(weights))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    labels = np.array([0, 2, 1, 1])
    np.testing.assert_allclose(
        cross_entropy(jnp.array(logits), jnp.eye(3)[labels], jnp.array(weights)),
        cross_entropy(jnp.array(logits), jnp.array(labels), jnp.array(weights)),
        rtol=1e-6,
    )


def test_smoothing_is_the_mean_over_all_classes():
    logits, labels = RNG.normal(size=(6, 4)), RNG.integers(0, 4, 6)
    log_p = np.log(softmax(logits))
    expected = -(0.9 * log_p[np.arange(6), labels] + 0.1 * log_p.mean(1)).mean()
    found = cross_entropy(jnp.array(logits), jnp.array(labels), jnp.ones(4), smoothing=0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_focal_loss_of_lin_and_others():
    logits, labels = 3 * RNG.normal(size=(7, 4)), RNG.integers(0, 4, 7)
    p = softmax(logits)[np.arange(7), labels]
    found = make_loss("multiclass", jnp.ones(4), gamma=2.0)(jnp.array(logits), jnp.array(labels))
    np.testing.assert_allclose(found, (-((1 - p) ** 2) * np.log(p)).mean(), rtol=1e-5)
    several = (RNG.random((7, 4)) < 0.3).astype(np.float64)
    several[0, 1] = np.nan
    q = 1 / (1 + np.exp(-logits))
    q = np.where(several == 1, q, 1 - q)
    known = ~np.isnan(several)
    found = make_loss("multilabel", jnp.ones(4), gamma=1.5)(jnp.array(logits), jnp.array(several))
    np.testing.assert_allclose(found, (-((1 - q) ** 1.5) * np.log(q))[known].mean(), rtol=1e-5)


def test_focal_gradient_is_finite_where_the_answer_is_certain():
    loss = make_loss("multiclass", jnp.ones(2), gamma=0.5)
    slope = jax.grad(lambda x: loss(x, jnp.array([0, 1])))(jnp.array([[60.0, -60.0], [60.0, -60.0]]))
    assert np.isfinite(slope).all()


def test_logit_adjustment_makes_the_optimum_the_balanced_posterior():
    """Minimising the adjusted loss, softmax(logits) is proportional to P(x | y), Menon et al. 2021."""
    prior, given_class = np.array([0.8, 0.15, 0.05]), np.array([0.2, 0.3, 0.5])
    joint = prior * given_class / (prior * given_class).sum()
    balanced = given_class / given_class.sum()
    loss = make_loss("multiclass", jnp.ones(3), shift=log_prior("multiclass", jnp.array(prior), 1.0))
    slope = jax.grad(lambda x: loss(x, jnp.array(joint)[None]))(jnp.log(jnp.array(balanced))[None])
    np.testing.assert_allclose(slope, 0, atol=1e-6)


def test_logit_adjustment_of_one_label_is_that_of_its_two_classes():
    prior = np.array([0.1])
    two = log_prior("multiclass", jnp.array([0.9, 0.1]), 1.3)
    np.testing.assert_allclose(log_prior("multilabel", jnp.array(prior), 1.3)[0], two[1] - two[0], rtol=1e-5)


def test_fields_out_of_range():
    for name, value, message in (
        ("name", "focus", "did you mean 'focal'"),
        ("gamma", -1.0, "loss.gamma=-1.0"),
        ("tau", 11.0, "loss.tau=11.0"),
        ("smoothing", 1.0, "loss.smoothing=1.0"),
    ):
        with pytest.raises(UserError, match=message):
            check_loss(run_config({"loss": {name: value}}).loss)


def test_a_loss_of_ones_own_weighs_rows_and_entries_as_the_others_do():
    """Cross-entropy handed in as one's own is the package's, with weights, smoothing, padding, unknowns."""
    rng = np.random.default_rng(0)
    logits, weights = jnp.array(rng.normal(size=(6, 3))), jnp.array([0.2, 1.0, 4.0])
    rows = make_loss("multiclass", jnp.ones(3), own=lambda x, t: -jnp.sum(t * jax.nn.log_softmax(x), -1))
    for labels in (jnp.array([0, 1, 2, 2, -1, 1]), jnp.array(rng.dirichlet(np.ones(3), 6))):
        want = make_loss("multiclass", jnp.ones(3), smoothing=0.1)
        found = replace(rows, smoothing=0.1)
        np.testing.assert_allclose(found(logits, labels), want(logits, labels), rtol=1e-6)
    labels = jnp.array([0, 1, 2, 2, -1, 1])
    squared = make_loss("multiclass", weights, own=lambda x, t: jnp.sum((x - t) ** 2, axis=-1))
    each = np.sum((np.array(logits) - np.eye(3)[labels]) ** 2, axis=1)
    counted = np.array([0.2, 1.0, 4.0, 4.0, 0.0, 1.0])
    np.testing.assert_allclose(squared(logits, labels), np.sum(counted * each) / np.sum(counted), rtol=1e-6)
    np.testing.assert_allclose(squared.weight(labels), np.sum(counted), rtol=1e-6)

    several = jnp.array([[1, 0, np.nan], [0, 1, 1], [np.nan] * 3, [1, 1, 0], [0, 0, 0], [1, 0, 1]])
    entries = make_loss("multilabel", jnp.ones(3), own=lambda x, t: jnp.logaddexp(0, x) - t * x)
    want = make_loss("multilabel", jnp.ones(3), smoothing=0.2)
    np.testing.assert_allclose(
        replace(entries, smoothing=0.2)(logits, several), want(logits, several), rtol=1e-5
    )
    hinge = make_loss("multilabel", weights, own=lambda x, t: jnp.abs(x - t))
    known, target = ~np.isnan(several), np.nan_to_num(several)
    each = np.abs(np.array(logits) - target) * (1 + (np.array(weights) - 1) * target)
    np.testing.assert_allclose(hinge(logits, several), np.sum(each[known]) / known.sum(), rtol=1e-6)


@pytest.mark.parametrize(
    "body, want",
    [
        ("def mine(logits): return logits", "no function .logits, target.* TypeError: too many positional"),
        ("mine = 3", "no function .*TypeError: 3 is not a callable object"),
        ("def mine(x, t): return x @ t", "no function .*TypeError: dot_general"),
    ],
)
def test_a_loss_that_cannot_be_one_is_refused_at_once(body, want, tmp_path):
    (tmp_path / "mine.py").write_text(body)
    with pytest.raises(UserError, match=want):
        check_loss(LossConfig(name=f"{tmp_path / 'mine.py'}:mine"))


def test_a_loss_of_another_shape_is_refused():
    def mean(logits, target):
        return jnp.mean(logits)

    with pytest.raises(UserError, match=r"'mean' returns an array of shape \(\) .* it must be \(4,\)"):
        make_loss("multiclass", jnp.ones(3), own=mean)(jnp.ones((4, 3)), jnp.zeros(4, int))
