"""Mixout against NumPy, and through the product's own step (Lee, Cho and Kang 2020)."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax import strategies
from ttl_jax.errors import UserError
from ttl_jax.training.optimizer import make_optimizer
from ttl_jax.training.state import initial_state
from ttl_jax.training.step import TrainStep

SHAPES = {
    "stem": {"conv": {"kernel": (3, 3, 3, 4)}, "norm": {"scale": (4,), "bias": (4,)}},
    "head": {"kernel": (4, 2), "bias": (2,)},
}
KEYS = jax.random.split(jax.random.key(0), 2)
BODY = ("stem/conv/kernel", "stem/norm/bias", "stem/norm/scale")


@pytest.fixture
def leaves():
    rng = np.random.default_rng(0)
    shapes = strategies.flatten(SHAPES)
    return {path: rng.normal(size=shape).astype(np.float32) for path, shape in shapes.items()}


@pytest.fixture
def anchor(leaves):
    return {path: leaf + 1 for path, leaf in leaves.items() if path in BODY}


def bind(text, leaves):
    (bound,) = strategies.bind(strategies.parse(text), strategies.unflatten(leaves), "resnet18")
    return bound


def mixed(text, leaves, anchor, seed=0):
    (part,) = bind(text, leaves).parts
    return part.parameters(leaves, anchor, lambda: jax.random.key(seed))


def test_each_weight_is_its_start_or_itself_and_the_mean_is_itself(leaves, anchor):
    p, kept, found = 0.7, 0.0, {}
    for seed in range(400):
        values = mixed(f"mixout({p})", leaves, anchor, seed)
        for path in BODY:
            w, start = leaves[path], anchor[path]
            itself, back = (w - p * start) / (1 - p), (start - p * start) / (1 - p)
            is_itself = np.isclose(values[path], itself, rtol=1e-4, atol=1e-5)
            assert (is_itself | np.isclose(values[path], back, rtol=1e-4, atol=1e-5)).all()
            kept += is_itself.mean() / len(BODY) / 400
            found[path] = found.get(path, 0) + np.asarray(values[path], np.float64) / 400
    assert kept == pytest.approx(1 - p, abs=0.02)
    for path in BODY:  # a weight has a standard deviation of |w - w0| sqrt(p / (1 - p)) = 1.5
        np.testing.assert_allclose(found[path], leaves[path], atol=5 * 1.53 / 20)
        assert abs((found[path] - leaves[path]).mean()) < 5 * 1.53 / 20 / np.sqrt(leaves[path].size)
    assert values["head/kernel"] is leaves["head/kernel"]  # it has no pretrained value


def test_only_weights_that_are_kept_have_a_gradient(leaves, anchor):
    gradients = jax.grad(
        lambda given: sum(jnp.sum(leaf) for leaf in mixed("mixout(0.5)", given, anchor).values())
    )(jax.tree.map(jnp.asarray, leaves))
    values = mixed("mixout(0.5)", leaves, anchor)
    for path in BODY:
        back = np.isclose(values[path], anchor[path], atol=1e-5)  # (w0 - p w0) / (1 - p)
        np.testing.assert_array_equal(gradients[path], np.where(back, 0.0, 2.0))
    assert {float(value) for value in np.ravel(gradients["stem/conv/kernel"])} == {0.0, 2.0}


def test_leaves_and_steps_are_drawn_apart(leaves):
    ones = {path: np.ones_like(leaf) for path, leaf in leaves.items()}
    zeros = {path: np.zeros_like(leaf) for path, leaf in leaves.items()}
    one, again, other = (mixed("mixout(0.5)", ones, zeros, seed) for seed in (0, 0, 1))
    for path in BODY:
        np.testing.assert_array_equal(one[path], again[path])
    assert not np.array_equal(one["stem/conv/kernel"], other["stem/conv/kernel"])
    assert not np.array_equal(one["stem/norm/bias"], one["stem/norm/scale"])


def test_what_does_not_train_or_is_never_mixed_is_no_part(leaves):
    assert bind("mixout(0.5)", leaves).anchor == BODY
    assert bind("mixout(0)", leaves).parts == bind("linear_probe+mixout", leaves).parts == ()


@pytest.mark.parametrize(
    ("text", "message"), [("mixout(1.0)", "p=1.0 must be"), ("mixout(0.5)+mixout(0.6)", "disagree on mixout")]
)
def test_options_that_make_no_sense(text, message, leaves):
    with pytest.raises(UserError, match=message):
        bind(text, leaves)


def test_no_mixing_at_all_is_the_program_of_full_fine_tuning(leaves):
    assert bind("mixout(0.0)", leaves) == bind("full", leaves) != bind("mixout(0.5)", leaves)


class Leaves:
    """A "network" whose outputs are its parameters."""

    def apply(self, variables, images, **_):
        return strategies.flatten(variables["params"]), {}


def test_a_step_draws_by_seed_and_step_and_moves_what_was_kept(leaves, anchor):
    bound = bind("mixout(0.5)", leaves)
    optimizer = make_optimizer(bound, SimpleNamespace(name="sgd", weight_decay=0.0, momentum=0.0, clip=0.0))

    def loss(given, labels):
        return sum(jnp.sum(leaf) for leaf in given.values())

    step = jax.jit(TrainStep(Leaves(), bound, optimizer, loss, lambda images, keys: images, lambda _: KEYS))
    variables = {"params": strategies.unflatten(leaves), "batch_stats": {}}
    moved = {}
    for seed, number in ((0, 0), (0, 0), (0, 1), (1, 0)):
        batch = {"image": np.zeros((2, 1)), "label": np.zeros(2), "seed": np.full(2, seed)}
        state = initial_state(variables, optimizer, bound.trainable, number)
        found = strategies.flatten(step(state, batch, jnp.float32(0.1), {"anchor": anchor})[0].params)
        change = np.asarray(found["stem/conv/kernel"]) - leaves["stem/conv/kernel"]
        np.testing.assert_allclose(change[change != 0], -0.2, rtol=1e-4)  # rate * 1 / (1 - p)
        assert 0.3 < (change != 0).mean() < 0.7
        assert ((seed, number) not in moved) or np.array_equal(moved[seed, number], change != 0)
        moved[seed, number] = change != 0
    assert len({kept.tobytes() for kept in moved.values()}) == 3
