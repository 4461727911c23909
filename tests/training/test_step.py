"""The step: frozen leaves, frozen statistics, what is computed, and independence of batch places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax import data, models, strategies, weights
from ttl_jax.config import default_config
from ttl_jax.strategies import Phase, Strategy, select
from ttl_jax.training.compile_ahead import compile_step
from ttl_jax.training.devices import Layout
from ttl_jax.training.loss import make_loss
from ttl_jax.training.optimizer import make_optimizer
from ttl_jax.training.state import initial_state, join, split
from ttl_jax.training.step import TrainStep

NAME = "resnet18"


def build(strategy, clip=0.0, augment="none", size=32):
    network, variables = models.create(NAME, 2), weights.initialise(NAME, 2)
    (bound,) = strategies.bind(strategy, variables["params"], NAME)
    config = default_config()
    config.optimizer.clip = clip
    optimizer = make_optimizer(bound, config.optimizer)
    spec = data.parse_augment(augment)
    step = TrainStep(
        network, bound, optimizer, make_loss("multiclass", jnp.ones(2)),
        lambda images, keys: data.augment(images.astype(jnp.float32), keys, spec) / 255,
        lambda batch: data.example_keys(0, batch["epoch"], batch["example"]),
    )  # fmt: skip
    images = np.random.default_rng(0).integers(0, 255, (4, size, size, 3)).astype(np.uint8)
    batch = {
        "image": images, "label": np.array([0, 1, 1, 0], np.int32),
        "example": np.arange(4, dtype=np.int32), "epoch": np.zeros(4, np.int32),
    }  # fmt: skip
    return step, initial_state(variables, optimizer, bound.trainable), batch, bound, variables


def frozen_below(unit):
    below = select.units(1, unit)
    return Strategy("layerwise", phases=(Phase(rules=((below, "freeze"), (~below, "train"))),))


def test_frozen_leaves_and_their_statistics_are_bitwise_unchanged():
    step, state, batch, bound, before = build(frozen_below(5))
    run = jax.jit(step)
    for _ in range(3):
        state, measured = run(state, batch, 1e-3)
    old, new = strategies.flatten(before["params"]), strategies.flatten(state.params)
    for path, value in old.items():
        if path in bound.trainable:
            assert np.abs(new[path] - value).max() > 0, path
        else:
            np.testing.assert_array_equal(new[path], value, err_msg=path)
    for path, value in strategies.flatten(before["batch_stats"]).items():
        same = np.array_equal(strategies.flatten(state.batch_stats)[path], value)
        assert same == (models.unit_of(NAME, path) in bound.still), path
    assert np.isfinite(measured["loss"]) and int(state.step) == 3


def test_flops_fall_with_every_frozen_unit_also_under_a_clip():
    # A clip or a metric that reads frozen gradients would bring their backward pass back.
    counts = []
    for strategy in (
        strategies.get("full"), frozen_below(3), frozen_below(7), strategies.get("linear_probe"),
    ):  # fmt: skip
        step, state, batch, *_ = build(strategy, clip=1.0)
        counts.append(compile_step(step, state, batch)[1])
    assert all(more > 1.1 * less for more, less in zip(counts, counts[1:], strict=False))


def test_optimizer_state_exists_for_trainable_leaves_only():
    _, state, _, bound, _ = build(frozen_below(7))
    train, _ = split(state.params, bound.trainable)
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.dtype == jnp.float32]
    assert sum(leaf.size for leaf in moments) == 2 * sum(leaf.size for leaf in train.values())


def test_split_and_join_are_inverse():
    _, state, _, bound, _ = build(strategies.get("linear_probe"))
    joined = join(*split(state.params, bound.trainable))
    assert jax.tree.structure(joined) == jax.tree.structure(state.params)
    assert all(map(np.array_equal, jax.tree.leaves(joined), jax.tree.leaves(state.params)))


def test_the_order_of_a_batch_changes_nothing_but_rounding():
    step, state, batch, *_ = build(strategies.get("full"), augment="flip,rotate(20),brightness(0.3)")
    run = jax.jit(step)
    _, straight = run(state, batch, 1e-3)
    order = np.array([2, 0, 3, 1])
    _, shuffled = run(state, {name: value[order] for name, value in batch.items()}, 1e-3)
    np.testing.assert_allclose(straight["loss"], shuffled["loss"], rtol=1e-5)
    np.testing.assert_allclose(straight["gradient_norm"], shuffled["gradient_norm"], rtol=1e-4)


@pytest.mark.parametrize("name", ["vgg16", "densenet121", "efficientnet_b0", "efficientnet_lite0"])
def test_every_family_traces_a_probe_and_a_full_step(name):
    network = models.create(name, 2)
    image = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.uint8)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((2, 32, 32, 3)))
    shapes = {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}
    for key in ("linear_probe", "full"):
        (bound,) = strategies.bind(strategies.get(key), shapes["params"], name)
        optimizer = make_optimizer(bound, default_config().optimizer)
        step = TrainStep(
            network, bound, optimizer, make_loss("multiclass", jnp.ones(2)),
            lambda images, keys: images.astype(jnp.float32),
            lambda batch: data.example_keys(0, batch["epoch"], batch["example"]),
        )  # fmt: skip
        state = jax.eval_shape(lambda v: initial_state(v, optimizer, bound.trainable), shapes)  # noqa: B023
        whole = jax.ShapeDtypeStruct((2,), jnp.int32)
        batch = {"image": image, "label": whole, "example": whole, "epoch": whole}
        after, measured = jax.eval_shape(step, state, batch, jnp.float32(0))
        assert jax.tree.structure(after) == jax.tree.structure(state)
        assert measured["loss"].shape == ()


def test_mixed_images_train_on_mixed_labels():
    network, variables = models.create(NAME, 2, cut=2), weights.initialise(NAME, 2, cut=2)
    (bound,) = strategies.bind(strategies.get("linear_probe"), variables["params"], NAME)
    config, spec = default_config(), data.parse_mix("mixup(0.5)")
    optimizer, seen = make_optimizer(bound, config.optimizer), []
    loss = make_loss("multiclass", jnp.ones(2))
    step = TrainStep(
        network, bound, optimizer, lambda logits, labels: seen.append(labels) or loss(logits, labels),
        lambda images, keys: images.astype(jnp.float32) / 255,
        lambda batch: data.example_keys(0, batch["epoch"], batch["example"]),
        mix=lambda images, labels, keys: data.mix(images, labels, keys, spec, 2),
    )  # fmt: skip
    _, _, batch, *_ = build(strategies.get("linear_probe"))
    state = initial_state(variables, optimizer, bound.trainable)
    with jax.disable_jit():
        step(state, batch, jnp.float32(1e-3))
    (labels,) = seen
    values = np.asarray(labels)
    assert values.shape == (4, 2)
    np.testing.assert_allclose(values.sum(axis=1), 1, rtol=1e-6)
    assert ((values > 0.01) & (values < 0.99)).any()


LOSSES = {
    "balanced": make_loss("multiclass", jnp.array([0.2, 1.0, 4.0])),
    "smoothed": make_loss("multiclass", jnp.array([0.2, 1.0, 4.0]), smoothing=0.1),
    "focal": make_loss("multiclass", jnp.ones(3), gamma=2.0),
    "adjusted": make_loss("multiclass", jnp.ones(3), shift=jnp.array([-0.1, -1.0, -3.0])),
    "labels, some unknown": make_loss("multilabel", jnp.array([1.0, 5.0, 20.0])),
}


@pytest.mark.parametrize("mode", ["jit", "pmap"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_in_parts_has_the_gradient_of_the_whole(name, mode):
    """Without BatchNorm; rare classes heavy, three rows of padding, one part of padding alone, a penalty."""
    network, variables = models.create("vgg16", 3, cut=1), weights.initialise("vgg16", 3, cut=1)
    (bound,) = strategies.bind(strategies.parse("l2_sp"), variables["params"], "vgg16")
    config = default_config()
    config.optimizer.name, config.optimizer.momentum = "sgd", 0.0
    optimizer = make_optimizer(bound, config.optimizer)
    labels = np.array([0, 0, 2, 0, 1, -1, -1, -1], np.int32)
    if LOSSES[name].task == "multilabel":
        labels = np.where(labels[:, None] < 0, np.nan, labels[:, None] == np.arange(3)).astype(np.float32)
        labels[0, 0] = labels[2, 1] = np.nan
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 255, (8, 16, 16, 3)).astype(np.uint8), "label": labels,
        "mask": (np.arange(8) < 5).astype(np.float32),
        "example": np.arange(8, dtype=np.int32), "epoch": np.zeros(8, np.int32),
    }  # fmt: skip
    anchor = {path: leaf + 0.1 for path, leaf in strategies.flatten(variables["params"]).items()}
    found = {}
    for parts in (1, 2, 8):
        step = TrainStep(
            network, bound, optimizer, LOSSES[name],
            lambda images, keys: images.astype(jnp.float32) / 255,
            lambda batch: data.example_keys(0, batch["epoch"], batch["example"]),
            layout=Layout(mode, (jax.devices()[0],), accumulate=parts),
        )  # fmt: skip
        state = initial_state(variables, optimizer, bound.trainable)
        given = state, batch, jnp.float32(1.0), {"anchor": anchor}
        if mode == "pmap":
            stacked = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], given)
            after, terms = jax.tree.map(lambda leaf: leaf[0], jax.pmap(step, axis_name="data")(*stacked))
        else:
            after, terms = jax.jit(step)(*given)
        moved = jax.tree.map(lambda new, old: new - old, after.params, state.params)  # minus the gradient
        found[parts] = strategies.flatten(moved) | dict(terms)
    assert float(found[1]["penalty"]) > 0 and float(found[1]["loss"]) > float(found[1]["penalty"])
    for parts in (2, 8):
        for path, value in found[1].items():
            np.testing.assert_allclose(found[parts][path], value, rtol=1e-5, atol=1e-6, err_msg=path)
