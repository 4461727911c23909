"""L1-SP and L2-SP against their gradients written out in NumPy (Li et al. 2018)."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax import strategies
from ttl_jax.errors import UserError
from ttl_jax.strategies import Pull, Strategy
from ttl_jax.strategies.penalties import anchored, penalty, pull_gradient
from ttl_jax.strategies.select import backbone
from ttl_jax.training.optimizer import make_optimizer

SHAPES = {
    "stem": {"conv": {"kernel": (3, 3, 3, 4)}, "norm": {"scale": (4,), "bias": (4,)}},
    "head": {"kernel": (4, 2), "bias": (2,)},
}


@pytest.fixture
def params(rng):
    shapes = strategies.flatten(SHAPES)
    return {path: rng.normal(size=shape).astype(np.float32) for path, shape in shapes.items()}


@pytest.fixture
def anchor(params, rng):
    return {path: leaf + rng.normal(size=leaf.shape).astype(np.float32) for path, leaf in params.items()}


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def bind(text, params):
    (bound,) = strategies.bind(strategies.parse(text), strategies.unflatten(params), "resnet18")
    return bound


def l2(alpha, beta, params, anchor):
    return {
        path: beta * leaf if path.startswith("head") else alpha * (leaf - anchor[path])
        for path, leaf in params.items()
    }


def l1(alpha, beta, params, anchor):
    return {
        path: beta * leaf if path.startswith("head") else alpha * np.sign(leaf - anchor[path])
        for path, leaf in params.items()
    }


@pytest.mark.parametrize(("key", "reference"), [("l2_sp", l2), ("l1_sp", l1)])
def test_the_gradient_is_that_of_the_formula(key, reference, params, anchor):
    bound = bind(f"{key}(alpha=0.3, beta=0.7)", params)
    gradients = pull_gradient(bound.pulls, params, anchor)
    for path, expected in reference(0.3, 0.7, params, anchor).items():
        np.testing.assert_allclose(gradients[path], expected, rtol=1e-6, atol=1e-7, err_msg=path)


def test_the_value_has_the_halves_of_the_paper(params, anchor):
    body = {path: leaf - anchor[path] for path, leaf in params.items() if not path.startswith("head")}
    head = [leaf for path, leaf in params.items() if path.startswith("head")]
    squares = sum(float((leaf**2).sum()) for leaf in body.values())
    ones = sum(float(np.abs(leaf).sum()) for leaf in body.values())
    tail = 0.7 / 2 * sum(float((leaf**2).sum()) for leaf in head)
    value = penalty(bind("l2_sp(alpha=0.3, beta=0.7)", params).pulls, params, anchor)
    np.testing.assert_allclose(value, 0.3 / 2 * squares + tail, rtol=1e-5)
    value = penalty(bind("l1_sp(alpha=0.3, beta=0.7)", params).pulls, params, anchor)
    np.testing.assert_allclose(value, 0.3 * ones + tail, rtol=1e-5)


def test_the_head_has_no_anchor_and_faithful_leaves_norms_and_biases_free(params):
    assert set(anchored(bind("l2_sp", params).pulls)) == {path for path in params if "head" not in path}
    faithful = bind("l2_sp(paper_faithful=True)", params)
    assert [item.paths for item in faithful.pulls] == [("stem/conv/kernel",), ("head/kernel",)]


def test_only_leaves_that_train_are_pulled(params, anchor):
    bound = bind("linear_probe+l2_sp(alpha=0.3, beta=0.7)", params)
    train = {path: params[path] for path in bound.trainable}
    gradients = pull_gradient(bound.pulls, train, anchor)
    assert set(gradients) == {"head/kernel", "head/bias"}
    np.testing.assert_allclose(gradients["head/bias"], 0.7 * params["head/bias"], rtol=1e-6)


@pytest.mark.parametrize("key", ["l2_sp", "l1_sp"])
def test_decoupled_joins_after_the_moments_as_adamw_does(key, params, anchor):
    bound = bind(f"{key}(alpha=0.3, beta=0.7, coupled=False)", params)
    config = SimpleNamespace(
        name="adam", weight_decay=0.0, momentum=0.0, b1=0.9, b2=0.999, eps=1e-8, clip=0.0
    )
    optimizer = make_optimizer(bound, config)
    gradients = {path: jnp.asarray(np.cos(leaf)) for path, leaf in params.items()}
    updates, _ = optimizer.update(gradients, optimizer.init(params), params, anchor=anchor)
    pulls = {"l2_sp": l2, "l1_sp": l1}[key](0.3, 0.7, params, anchor)
    for path, gradient in gradients.items():  # Adam's first direction is g / (|g| + eps)
        expected = gradient / (np.abs(gradient) + 1e-8) + pulls[path]
        np.testing.assert_allclose(updates[path], expected, rtol=3e-5, atol=1e-5, err_msg=path)


def test_penalties_of_a_sum_add(params, anchor):
    one, two = (strategies.get("l2_sp", alpha=alpha) for alpha in (0.1, 0.2))
    (bound,) = strategies.bind(one + two, strategies.unflatten(params), "resnet18")
    single = bind("l2_sp(alpha=0.3, beta=0.02)", params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        pull_gradient(bound.pulls, params, anchor),
        pull_gradient(single.pulls, params, anchor),
    )


@pytest.mark.parametrize("pull", [Pull(backbone, -1.0), Pull(backbone, 1.0, norm=3), Pull(backbone, np.nan)])
def test_a_term_that_makes_no_sense_is_refused(pull, params):
    with pytest.raises(UserError, match="1 or 2, and not negative"):
        strategies.bind(Strategy("x", penalties=(pull,)), strategies.unflatten(params), "resnet18")
