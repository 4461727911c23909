"""The optimizer of a phase: updates against NumPy, state for trainable leaves only."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax.errors import UserError
from ttl_jax.strategies import LabelledPhase, Phase, Train
from ttl_jax.training.optimizer import carry_over, make_optimizer

LABELS = {"a/kernel": "slow", "b/kernel": "train", "c/kernel": "freeze"}


def config(**values):
    defaults = dict(name="adam", weight_decay=0.0, momentum=0.9, b1=0.9, b2=0.999, eps=1e-8, clip=0.0)
    return SimpleNamespace(**{**defaults, **values})


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


def test_a_label_with_the_same_leaves_keeps_its_state_over_a_phase_change():
    params = {"a/kernel": jnp.array([1.0, -2.0]), "b/kernel": jnp.array([3.0])}
    before = bound({})
    optimizer = make_optimizer(before, config())
    _, state = optimizer.update(params, optimizer.init(params), params)

    def second(reset, labels):
        phase = Phase(transforms={}, name="q", reset=reset)
        after = LabelledPhase(phase, labels, dict.fromkeys(params, 1.0), (), "")
        fresh = make_optimizer(after, config()).init({k: params[k] for k in labels if labels[k] != "freeze"})
        return carry_over(before, state, after, fresh)[1].inner_states

    same = second(False, LABELS)
    assert same["train"].inner_state[0].count == 1
    np.testing.assert_array_equal(same["train"].inner_state[0].mu["b/kernel"], np.float32([0.3]))
    assert second(True, LABELS)["train"].inner_state[0].count == 0
    merged = second(False, {"a/kernel": "train", "b/kernel": "train", "c/kernel": "freeze"})
    assert (
        merged["train"].inner_state[0].count == 0 and not merged["train"].inner_state[0].mu["b/kernel"].any()
    )


def test_errors_name_what_is_wrong():
    with pytest.raises(UserError, match="did you mean 'adamw'"):
        make_optimizer(bound({}), config(name="adamww"))
    with pytest.raises(UserError, match="'fast'"):
        make_optimizer(bound({"fast": Train()}), config())
