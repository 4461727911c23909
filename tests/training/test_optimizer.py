"""The optimizer of a phase: updates against NumPy, state for trainable leaves only."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ttl_jax.config import typed
from ttl_jax.config.run import OptimizerConfig
from ttl_jax.errors import UserError
from ttl_jax.strategies import LabelledPhase, Phase, Train
from ttl_jax.training import optimizer as module
from ttl_jax.training.optimizer import carry_over, make_optimizer, scale_by_adam

LABELS = {"a/kernel": "slow", "b/kernel": "train", "c/kernel": "freeze"}


def config(**values):
    return typed(OptimizerConfig, values, "optimizer.")


def bound(transforms):
    rates = {"a/kernel": transforms["slow"].lr if "slow" in transforms else 1.0, "b/kernel": 1.0}
    return LabelledPhase(Phase(transforms=transforms, name="p"), LABELS, rates, (), "")


def three_updates(settings):
    optimizer = make_optimizer(bound({"slow": Train(lr=0.1)}), settings)
    params = {"a/kernel": jnp.array([1.0, -2.0]), "b/kernel": jnp.array([3.0])}
    state, found = optimizer.init(params), []
    for scale in (1.0, -2.0, 0.5):
        gradients = jax.tree.map(lambda leaf: scale * (leaf + 1), params)  # noqa: B023
        updates, state = optimizer.update(gradients, state, params)
        found.append(updates)
    return found


def test_the_norm_of_small_leaves_and_of_those_that_go_in_pieces(monkeypatch):
    monkeypatch.setattr(module, "SMALL", 10)
    monkeypatch.setattr(module, "LARGE", 64)
    rng, sizes = np.random.default_rng(0), ((3,), (9,), (10,), (8, 8), (50, 7), (4, 32))
    tree = {str(size): rng.normal(size=size).astype(np.float32) for size in sizes}
    expected = np.sqrt(sum(np.square(leaf.astype(np.float64)).sum() for leaf in tree.values()))
    np.testing.assert_allclose(jax.jit(module.global_norm)(tree), expected, rtol=1e-6)
    assert module.global_norm({}) == 0


def test_adam_with_a_slower_label():
    mean = variance = np.zeros(2)
    for step, (scale, updates) in enumerate(
        zip((1.0, -2.0, 0.5), three_updates(config()), strict=True), start=1
    ):
        gradient = scale * (np.array([1.0, -2.0]) + 1)
        mean, variance = 0.9 * mean + 0.1 * gradient, 0.999 * variance + 0.001 * gradient**2
        expected = (mean / (1 - 0.9**step)) / (np.sqrt(variance / (1 - 0.999**step)) + 1e-8)
        np.testing.assert_allclose(updates["a/kernel"], 0.1 * expected, rtol=1e-5)


def test_sgd_couples_weight_decay_and_adamw_does_not():
    sgd = three_updates(config(name="sgd", weight_decay=0.5))
    trace = 0.0
    for scale, updates in zip((1.0, -2.0, 0.5), sgd, strict=True):
        trace = 0.9 * trace + scale * 4.0 + 0.5 * 3.0
        np.testing.assert_allclose(updates["b/kernel"], [trace], rtol=1e-6)
    plain, decayed = three_updates(config()), three_updates(config(name="adamw", weight_decay=0.5))
    for before, after in zip(plain, decayed, strict=True):
        np.testing.assert_allclose(after["b/kernel"], before["b/kernel"] + 0.5 * 3.0, rtol=1e-6)


def test_the_clip_sees_trainable_leaves_only():
    (first, *_) = three_updates(config(name="sgd", momentum=0.0, clip=1.0))
    norm = np.sqrt(2**2 + 1**2 + 4**2)  # gradients a: (2, -1), b: 4; the frozen c has none
    np.testing.assert_allclose(first["b/kernel"], [4 / norm], rtol=1e-6)
    np.testing.assert_allclose(first["a/kernel"], 0.1 * np.array([2, -1]) / norm, rtol=1e-6)


def test_state_exists_for_trainable_leaves_only():
    optimizer = make_optimizer(bound({}), config())
    state = optimizer.init({"a/kernel": jnp.zeros(2), "b/kernel": jnp.zeros(1)})
    floats = [leaf for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.float32]
    assert sum(leaf.size for leaf in floats) == 2 * 3  # two moments of three numbers


def test_a_leaf_with_the_same_label_keeps_its_state_over_a_phase_change():
    params = {"a/kernel": jnp.array([1.0, -2.0]), "b/kernel": jnp.array([3.0])}
    before = bound({})
    optimizer = make_optimizer(before, config())
    _, state = optimizer.update(params, optimizer.init(params), params)

    def second(reset, labels):
        phase = Phase(transforms={}, name="q", reset=reset)
        after = LabelledPhase(phase, labels, dict.fromkeys(params, 1.0), (), "")
        fresh = make_optimizer(after, config()).init({k: params[k] for k in labels if labels[k] != "freeze"})
        kept = carry_over(state, after, fresh)
        assert jax.tree.structure(kept) == jax.tree.structure(fresh)
        return {label: group.inner_state[0] for label, group in kept[1].inner_states.items()}

    same = second(False, LABELS)
    assert same["train"].ages.tolist() == [1]
    np.testing.assert_array_equal(same["train"].mu["b/kernel"], np.float32([0.3]))
    assert second(True, LABELS)["train"].ages.tolist() == [0]
    merged = second(False, {"a/kernel": "train", "b/kernel": "train", "c/kernel": "freeze"})["train"]
    assert merged.ages.tolist() == [0, 1]  # a's label changed
    assert not merged.mu["a/kernel"].any() and merged.mu["b/kernel"].any()


def test_a_leaf_that_joins_later_is_corrected_for_its_own_age():
    params = {"a/kernel": jnp.array([1.0, -2.0]), "b/kernel": jnp.array([3.0])}
    first = LabelledPhase(
        Phase(transforms={}, name="p"), {"a/kernel": "freeze", "b/kernel": "train"}, {"b/kernel": 1.0}, (), ""
    )
    then = LabelledPhase(
        Phase(transforms={}, name="q"), dict.fromkeys(params, "train"), dict.fromkeys(params, 1.0), (), ""
    )
    alone = {"b/kernel": params["b/kernel"]}
    optimizer = make_optimizer(first, config())
    state = optimizer.init(alone)
    gradients = [2.0, -1.0, 0.5]
    for scale in gradients[:2]:
        _, state = optimizer.update({"b/kernel": jnp.array([scale])}, state, alone)
    optimizer = make_optimizer(then, config())
    state = carry_over(state, then, optimizer.init(params))
    updates, _ = optimizer.update(
        {"a/kernel": jnp.array([0.3, -4.0]), "b/kernel": jnp.array([gradients[2]])}, state, params
    )
    np.testing.assert_allclose(updates["a/kernel"], [1, -1], rtol=1e-5)  # Adam's first step is the sign
    mean = variance = 0.0
    for gradient in gradients:
        mean, variance = 0.9 * mean + 0.1 * gradient, 0.999 * variance + 0.001 * gradient**2
    expected = (mean / (1 - 0.9**3)) / (np.sqrt(variance / (1 - 0.999**3)) + 1e-8)
    np.testing.assert_allclose(updates["b/kernel"], [expected], rtol=1e-5)


def test_adam_is_optax_adam_up_to_its_rounding():
    ours, theirs = scale_by_adam(0.9, 0.999, 1e-8), optax.scale_by_adam(0.9, 0.999, 1e-8)
    params = {"a": jnp.linspace(-2, 3, 7), "b": jnp.ones((2, 2))}
    mine, other = ours.init(params), theirs.init(params)
    for scale in (1.0, -3.0, 0.2, 0.0):
        gradients = jax.tree.map(lambda leaf: scale * jnp.cos(leaf), params)  # noqa: B023
        (one, mine), (two, other) = ours.update(gradients, mine), theirs.update(gradients, other)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=3e-5), one, two)


def test_errors_name_what_is_wrong():
    with pytest.raises(UserError, match="did you mean 'adamw'"):
        make_optimizer(bound({}), config(name="adamww"))
    with pytest.raises(UserError, match="'fast'"):
        make_optimizer(bound({"fast": Train()}), config())
