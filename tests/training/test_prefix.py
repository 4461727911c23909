"""Cached features of frozen units: which units, and the same run as without the cache."""

import json

import jax
import numpy as np
import pytest

from ttl_jax import models, strategies, weights
from ttl_jax.config import set_fields
from ttl_jax.strategies import Phase, Strategy, select
from ttl_jax.training.frozen.prefix import frozen_prefix
from ttl_jax.training.run import train


def bound(*rules, **fields):
    params = weights.initialise("resnet18", 2)["params"]
    strategy = Strategy("s", phases=(Phase(rules=rules, **fields),))
    return strategies.bind(strategy, params, "resnet18")[0], params


def test_the_prefix_ends_below_the_first_unit_that_trains_or_moves():
    low = select.units(1, 5)
    item, params = bound((low, "freeze"), (~low, "train"))
    assert frozen_prefix(item, params, "resnet18") == "stage2/block2"
    item, params = bound((select.head, "train"), (select.backbone, "freeze"))
    assert frozen_prefix(item, params, "resnet18") == models.units("resnet18")[-1].name
    item, params = bound((select.head, "train"), (select.backbone, "freeze"), bn="moving")
    assert frozen_prefix(item, params, "resnet18") is None
    item, params = bound((select.norms, "train"), (~select.norms, "freeze"))
    assert frozen_prefix(item, params, "resnet18") is None


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("strategy", ["linear_probe", "gradual_last_first"])
def test_cached_views_equal_views_made_anew(tmp_path, config, datasets, strategy, on_disk):
    fields = {"strategy": f"truncated(3)+{strategy}", "data.augment": "flip,rotate(20)", "data.views": 2,
              "optimizer.name": "sgd", "total_steps": 12}  # fmt: skip
    set_fields(config, fields)
    if on_disk:
        set_fields(config, {"data.cache_gb": 0.0, "cache_disk_gb": 1.0})
    cached = train(config, tmp_path / "cached", datasets)
    assert (tmp_path / "cached" / "features").exists() is False  # cleared at the end
    config.cache_features = False
    plain = train(config, tmp_path / "plain", datasets)
    for mine, theirs in zip(jax.tree.leaves(cached.variables), jax.tree.leaves(plain.variables), strict=True):
        assert np.abs(mine - theirs).max() < 1e-5 * max(np.abs(theirs).max(), 1e-6)
    assert cached.metrics["flops_per_step"] < 0.9 * plain.metrics["flops_per_step"]


@pytest.mark.parametrize("head", ["", "flatten", "mlp"])
def test_a_probe_on_cached_features_equals_one_on_images(tmp_path, config, datasets, head):
    config.strategy, config.data.augment, config.model.head = "linear_probe", "none", head
    config.optimizer.name = "sgd"  # Adam amplifies rounding where a gradient is near zero
    cached = train(config, tmp_path / "cached", datasets)
    config.cache_features = False
    plain = train(config, tmp_path / "plain", datasets)
    for mine, theirs in zip(jax.tree.leaves(cached.variables), jax.tree.leaves(plain.variables), strict=True):
        scale = max(np.abs(theirs).max(), 1e-6)
        assert np.abs(mine - theirs).max() < 1e-5 * scale
    losses = []
    for name in ("cached", "plain"):
        text = (tmp_path / name / "metrics.jsonl").read_text()
        losses.append([json.loads(line)["loss"] for line in text.splitlines()])
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert cached.metrics["flops_per_step"] < 0.1 * plain.metrics["flops_per_step"]


def test_weights_of_one_channel_have_cached_features_too(tmp_path, config, datasets):
    state = weights.export_torch(weights.initialise("resnet18", 7, seed=3), "resnet18")
    np.savez(tmp_path / "grey.npz", **(state | {"conv1.weight": state["conv1.weight"][:, :1]}))
    set_fields(config, {"strategy": "truncated(2) + linear_probe", "data.augment": "none",
                        "model.weights": str(tmp_path / "grey.npz"), "optimizer.name": "sgd"})  # fmt: skip
    cached = train(config, tmp_path / "cached", datasets)
    config.cache_features = False
    plain = train(config, tmp_path / "plain", datasets)
    assert cached.metrics["flops_per_step"] < 0.1 * plain.metrics["flops_per_step"]
    for mine, theirs in zip(jax.tree.leaves(cached.variables), jax.tree.leaves(plain.variables), strict=True):
        assert np.abs(mine - theirs).max() < 1e-5 * max(np.abs(theirs).max(), 1e-6)
