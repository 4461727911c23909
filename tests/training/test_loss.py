"""Losses and their gradients against NumPy written from the formulas."""

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax.training.loss import binary_cross_entropy, cross_entropy, make_loss

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
