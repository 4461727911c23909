"""What a run is built of, before its first step."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight

from ttl_jax.config import run_config, set_fields
from ttl_jax.training.build import loss_of


@pytest.mark.parametrize("balanced", [False, True])
def test_classes_weigh_as_scikit_learn_balances_them(config, make_split, balanced):
    training = make_split("train", 20, 0)
    training.labels[:5] = 0  # 13 to 7
    set_fields(config, {"data.class_weights": "balanced" if balanced else "none"})
    logits = np.random.default_rng(0).normal(size=(20, 2))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    each = compute_sample_weight("balanced", training.labels) if balanced else np.ones(20)
    expected = log_loss(training.labels, chances, sample_weight=each)
    found = loss_of(run_config(config), training)(jnp.asarray(logits), jnp.asarray(training.labels))
    assert float(found) == pytest.approx(expected, rel=1e-5)
