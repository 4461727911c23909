"""Probes that are solved for: against scikit-learn, and as runs."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from ttl_jax.config import set_fields
from ttl_jax.errors import UserError
from ttl_jax.strategies.parts.solved_head import lbfgs_heads, ridge_head
from ttl_jax.training.loss import make_loss
from ttl_jax.training.run import train


def problem(classes=3, n=60, d=5):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n)
    features = rng.normal(size=(n, d)) * [1, 2, 0.5, 3, 1] + 0.7 * labels[:, None]
    return features.astype(np.float32), labels


def test_lbfgs_finds_scikit_learn_s_logistic_regression():
    features, labels = problem()
    loss = make_loss("multiclass", jnp.ones(3))

    def loss_of(head, features):
        return loss(features @ head["head/kernel"] + head["head/bias"], jnp.asarray(labels))

    start = {"head/kernel": jnp.zeros((5, 3)), "head/bias": jnp.zeros(3)}
    penalties = (0.001, 0.1)
    heads, iterations = lbfgs_heads(loss_of, start, jnp.asarray(penalties), features)
    assert (iterations < 100).all()
    for number, l2 in enumerate(penalties):
        theirs = LogisticRegression(C=1 / (len(labels) * l2), tol=1e-8, max_iter=2000).fit(features, labels)
        np.testing.assert_allclose(heads["head/kernel"][number], theirs.coef_.T, atol=2e-3)
        logits = features @ heads["head/kernel"][number] + heads["head/bias"][number]
        mine = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        np.testing.assert_allclose(mine, theirs.predict_proba(features), atol=1e-3)


def test_ridge_finds_scikit_learn_s_and_scales_it():
    features, labels = problem(2)
    head, alpha = ridge_head(features, labels)
    scale = features.std(0)
    theirs = Ridge(alpha=alpha * len(labels)).fit((features - features.mean(0)) / scale, 2.0 * labels - 1)
    mine = features @ np.asarray(head["head/kernel"]) + np.asarray(head["head/bias"])
    theirs = theirs.predict((features - features.mean(0)) / scale)
    ratio = mine[:, 1] / theirs
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)  # one temperature for all
    np.testing.assert_allclose(mine[:, 0], -mine[:, 1], atol=1e-4)


@pytest.mark.parametrize("solver", ["lbfgs", "ridge"])
def test_a_solved_probe_is_a_run_like_any_other(tmp_path, config, datasets, solver):
    set_fields(config, {"strategy": f"truncated(2)+linear_probe(solver='{solver}')", "data.augment": "none"})
    found = train(config, tmp_path, datasets)
    assert found.metrics["val"]["auroc"] == 1 and found.metrics["steps"] == 6
    assert found.metrics["trainable_params"] == 64 * 2 + 2
    again = train(config, tmp_path, datasets)
    np.testing.assert_array_equal(again.variables["params"]["head"]["kernel"],
                                  found.variables["params"]["head"]["kernel"])  # fmt: skip


def test_the_average_of_weights_holds_the_head_that_was_solved_for(tmp_path, config, datasets):
    set_fields(config, {"strategy": "truncated(2)+linear_probe(solver='ridge')", "data.augment": "none"})
    alone = train(config, tmp_path / "alone", datasets).variables["params"]["head"]
    config.strategy += "+ema"
    averaged = train(config, tmp_path / "averaged", datasets).variables["params"]["head"]
    for name, leaf in alone.items():
        np.testing.assert_array_equal(averaged[name], leaf)


def test_what_a_solver_cannot_do_is_said(tmp_path, config, datasets):
    config.strategy = "truncated(2)+linear_probe(solver='lbfgs')"
    with pytest.raises(UserError, match="the same features in every epoch: set data.augment='none'"):
        train(config, tmp_path / "a", datasets)
    set_fields(
        config,
        {
            "data.augment": "none",
            "strategy": "truncated(2)+linear_probe(solver='ridge')",
            "model.head": "mlp",
        },
    )
    with pytest.raises(UserError, match="a head that is one linear map"):
        train(config, tmp_path / "b", datasets)
    for text in ("linear_probe(solver='newton')", "linear_probe(l2=0.1)"):
        config.strategy = text
        with pytest.raises(UserError, match="linear_probe: "):
            train(config, tmp_path / "c", datasets)
