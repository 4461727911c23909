"""L1-SP and L2-SP against gradients and proximal steps written out in NumPy (Li et al. 2018)."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax import strategies
from ttl_jax.errors import UserError
from ttl_jax.strategies import Pull, Strategy
from ttl_jax.strategies.parts import Seen
from ttl_jax.strategies.select import backbone
from ttl_jax.training.build import phase_constants
from ttl_jax.training.optimizer import gain, make_optimizer
from ttl_jax.training.state import initial_state
from ttl_jax.training.step import TrainStep

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


def penalty(bound, params, anchor):
    seen = Seen(params, {}, {}, None, {"anchor": anchor})
    return sum(replace(item, part=replace(item.part, coupled=True)).loss(seen) for item in bound.parts)


def pull_gradient(bound, params, anchor):
    return jax.grad(lambda leaves: penalty(bound, leaves, anchor))(dict(params))


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
    gradients = pull_gradient(bound, params, anchor)
    for path, expected in reference(0.3, 0.7, params, anchor).items():
        np.testing.assert_allclose(gradients[path], expected, rtol=1e-6, atol=1e-7, err_msg=path)


def test_the_value_has_the_halves_of_the_paper(params, anchor):
    body = {path: leaf - anchor[path] for path, leaf in params.items() if not path.startswith("head")}
    head = [leaf for path, leaf in params.items() if path.startswith("head")]
    squares = sum(float((leaf**2).sum()) for leaf in body.values())
    ones = sum(float(np.abs(leaf).sum()) for leaf in body.values())
    tail = 0.7 / 2 * sum(float((leaf**2).sum()) for leaf in head)
    value = penalty(bind("l2_sp(alpha=0.3, beta=0.7)", params), params, anchor)
    np.testing.assert_allclose(value, 0.3 / 2 * squares + tail, rtol=1e-5)
    value = penalty(bind("l1_sp(alpha=0.3, beta=0.7)", params), params, anchor)
    np.testing.assert_allclose(value, 0.3 * ones + tail, rtol=1e-5)


def test_the_head_has_no_anchor_and_faithful_leaves_norms_and_biases_free(params):
    assert set(bind("l2_sp", params).anchor) == {path for path in params if "head" not in path}
    faithful = bind("l2_sp(paper_faithful=True)", params)
    assert [item.paths for item in faithful.parts] == [("stem/conv/kernel",), ("head/kernel",)]


def test_only_leaves_that_train_are_pulled(params, anchor):
    bound = bind("linear_probe+l2_sp(alpha=0.3, beta=0.7)", params)
    train = {path: params[path] for path in bound.trainable}
    gradients = pull_gradient(bound, train, anchor)
    assert set(gradients) == {"head/kernel", "head/bias"}
    np.testing.assert_allclose(gradients["head/bias"], 0.7 * params["head/bias"], rtol=1e-6)


OPTIMIZER = dict(weight_decay=0.0, momentum=0.9, b1=0.9, b2=0.999, eps=1e-8, clip=0.0)
ADAM, SGD = SimpleNamespace(name="adam", **OPTIMIZER), SimpleNamespace(name="sgd", **OPTIMIZER)


class Leaves:
    """A "network" whose outputs are its parameters: the loss's gradient is known of each of them."""

    def apply(self, variables, images, **_):
        return strategies.flatten(variables["params"]), {}


def train(text, params, anchor, target, config, rates):
    """The parameters after each step of the product's own on sum (w - target)^2 / 2, and the phase."""
    bound = bind(text, params)
    optimizer = make_optimizer(bound, config)

    def loss(leaves, labels):
        return sum(jnp.sum(jnp.square(leaf - target[path])) / 2 for path, leaf in leaves.items())

    step = jax.jit(
        TrainStep(
            Leaves(), bound, optimizer, loss, lambda images, keys: images,
            lambda batch: jax.random.split(jax.random.key(0), 2), gain=gain(config),
        )
    )  # fmt: skip
    variables = {"params": strategies.unflatten(params), "batch_stats": {}}
    state = initial_state(variables, optimizer, bound.trainable, measured=bound.measures)
    batch, seen = {"image": np.zeros((2, 1)), "label": np.zeros(2, np.int32)}, []
    for rate in rates:
        state, _ = step(state, batch, jnp.float32(rate), {"anchor": anchor})
        leaves = strategies.flatten(state.params)
        seen.append(({path: np.asarray(leaf) for path, leaf in leaves.items()}, state.multipliers))
    return seen, bound


def soft(w, start, threshold):
    return start + np.sign(w - start) * np.maximum(np.abs(w - start) - threshold, 0)


def shrink(w, start, strength):
    return (w + strength * start) / (1 + strength)


@pytest.mark.parametrize(
    ("text", "stem", "stage1", "head"),
    [("{}", 1.0, 1.0, 1.0), ("discriminative(decay=2.0)+{}", 0.25, 0.5, 1.0),
     ("layerwise('stem', head_lr=3.0)+{}", None, 1.0, 3.0)],
)  # fmt: skip
@pytest.mark.parametrize(("key", "operator"), [("l1_sp", soft), ("l2_sp", shrink)])
def test_a_proximal_step_follows_each_of_adam_s(text, stem, stage1, head, key, operator, params, anchor, rng):
    """Of the size of the leaf's own step; what is frozen stays, the head goes to 0 by beta / 2 ||w||^2."""
    multipliers = {"stem": stem, "stage1": stage1, "head": head}
    params["stage1/block1/conv1/kernel"] = rng.normal(size=(2, 3)).astype(np.float32)
    anchor["stage1/block1/conv1/kernel"] = params["stage1/block1/conv1/kernel"] + 0.1
    target = {path: leaf + rng.normal(size=leaf.shape) for path, leaf in params.items()}
    rates = (0.1, 0.2, 0.15, 0.05)
    penalised = text.format(f"{key}(alpha=0.3, beta=0.7, coupled=False)")
    seen, _ = train(penalised, params, anchor, target, ADAM, rates)
    for path, leaf in params.items():
        w, mean, variance = leaf.astype(np.float64), 0.0, 0.0
        multiplier = multipliers[path.split("/")[0]]
        for age, (rate, (found, _)) in enumerate(zip(rates, seen, strict=True), start=1):
            if multiplier is None:
                np.testing.assert_array_equal(found[path], leaf, err_msg=path)
                continue
            size, gradient = rate * multiplier, w - target[path]
            mean, variance = 0.9 * mean + 0.1 * gradient, 0.999 * variance + 0.001 * gradient**2
            w = w - size * (mean / (1 - 0.9**age)) / (np.sqrt(variance / (1 - 0.999**age)) + 1e-8)
            new = path.startswith("head")
            w = shrink(w, 0.0, size * 0.7) if new else operator(w, anchor[path], size * 0.3)
            np.testing.assert_allclose(found[path], w, rtol=2e-4, atol=2e-5, err_msg=path)


def test_a_measured_rate_scales_the_proximal_step_too(params, anchor, rng):
    target = {path: leaf + rng.normal(size=leaf.shape) for path, leaf in params.items()}
    text = "auto_rgn(refresh='batch')+l1_sp(alpha=0.3, beta=0.0)"
    ((found, multipliers),), _ = train(text, params, anchor, target, ADAM, (0.1,))
    assert len({float(value) for value in multipliers.values()}) > 2
    for path, leaf in params.items():
        size = 0.1 * float(multipliers[path])
        w = leaf - size * np.sign(leaf - target[path])  # Adam's first step
        expected = w if path.startswith("head") else soft(w, anchor[path], size * 0.3)
        np.testing.assert_allclose(found[path], expected, rtol=1e-4, atol=1e-5, err_msg=path)


def test_a_leaf_that_is_stopped_is_not_pulled(params, anchor):
    text = "auto_snr(threshold=1e9, refresh='batch')+l2_sp(alpha=5.0, coupled=False)"
    ((found, _),), _ = train(text, params, anchor, anchor, ADAM, (0.1,))
    for path, leaf in params.items():
        assert np.array_equal(found[path], leaf) != path.startswith("head"), path


def test_trials_that_differ_in_their_strengths_share_a_program(params, anchor):
    """The weights of the penalties are arguments; what is trained with them is what is written."""
    programs, found = set(), []
    for alpha, beta in ((0.3, 0.7), (0.01, 0.0)):
        bound = bind(
            f"l1_sp(alpha={alpha}, beta={beta})+l2_sp(alpha={beta}, beta={alpha})+bss({alpha})", params
        )
        optimizer = make_optimizer(bound, ADAM)

        def loss(leaves, labels):
            return sum(jnp.sum(jnp.square(leaf)) for leaf in leaves.values())

        class Captures(Leaves):
            def apply(self, variables, images, **_):
                leaves = strategies.flatten(variables["params"])
                top = jnp.stack([leaves["stem/norm/bias"], leaves["stem/norm/scale"]])
                return (leaves, {unit: top for unit in bound.capture}), {}  # noqa: B023

        step = TrainStep(
            Captures(), bound, optimizer, loss, lambda images, keys: images,
            lambda batch: jax.random.split(jax.random.key(0), 2),
        )  # fmt: skip
        variables = {"params": strategies.unflatten(params), "batch_stats": {}}
        state = initial_state(variables, optimizer, bound.trainable)
        batch = {"image": np.zeros((2, 1)), "label": np.zeros(2, np.int32)}
        written = {"anchor": anchor}
        given = phase_constants(bound, {"params": strategies.unflatten(anchor)}, {})
        programs.add(jax.jit(step).lower(state, batch, jnp.float32(0.1), given).as_text())
        one, two = (jax.jit(step)(state, batch, jnp.float32(0.1), each)[0] for each in (written, given))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), one.params, two.params)
        found.append(two.params["head"]["kernel"])
    assert len(programs) == 1 and np.abs(found[0] - found[1]).max() > 1e-3


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("key", ["l1_sp", "l2_sp"])
def test_sgd_comes_to_rest_at_the_minimum_of_the_paper_s_objective(key, momentum, params, anchor, rng):
    """argmin of (w - t)^2 / 2 + alpha |w - w0| or alpha / 2 (w - w0)^2, in closed form."""
    target = {path: leaf + rng.normal(size=leaf.shape) for path, leaf in params.items()}
    config = SimpleNamespace(**{**vars(SGD), "momentum": momentum})
    text = f"{key}(alpha=0.4, beta=0.5, coupled=False)"
    seen, _ = train(text, params, anchor, target, config, [0.05] * 600)
    for path, w in seen[-1][0].items():
        if path.startswith("head"):
            expected = target[path] / 1.5
        elif key == "l1_sp":
            expected = soft(target[path], anchor[path], 0.4)
            held = expected == anchor[path]
            np.testing.assert_array_equal(w[held], anchor[path][held])  # there, not near
        else:
            expected = (target[path] + 0.4 * anchor[path]) / 1.4
        np.testing.assert_allclose(w, expected, rtol=0, atol=1e-4, err_msg=path)


def test_under_adam_a_coupled_l1_is_a_push_of_one_size_whatever_its_weight(params, rng):
    """Why it is not the default: a weight of 5 and of 500 move alike, and nothing rests at the start."""
    anchor = {path: leaf + 0.5 for path, leaf in params.items()}

    def drawn(alpha, coupled):
        text = f"l1_sp(alpha={alpha}, beta=0.0, coupled={coupled})"
        seen, _ = train(text, params, anchor, params, ADAM, [0.02] * 40)
        return seen[-1][0]["stem/conv/kernel"]

    weak, strong = drawn(5.0, True), drawn(500.0, True)
    np.testing.assert_allclose(weak, strong, atol=0.03)  # a step or two of 0.02
    assert not (strong == anchor["stem/conv/kernel"]).any()
    assert (drawn(500.0, False) == anchor["stem/conv/kernel"]).all()
    assert np.abs(drawn(0.001, False) - params["stem/conv/kernel"]).max() < 0.02


def test_the_default_is_proximal_for_norm_1_and_the_old_way_an_option(params):
    assert [item.part.coupled for item in bind("l1_sp", params).parts] == [False, False]
    assert [item.part.coupled for item in bind("l1_sp(coupled=True)", params).parts] == [True, True]


def test_penalties_of_a_sum_add(params, anchor):
    one, two = (strategies.get("l2_sp", alpha=alpha) for alpha in (0.1, 0.2))
    (bound,) = strategies.bind(one + two, strategies.unflatten(params), "resnet18")
    single = bind("l2_sp(alpha=0.3, beta=0.02)", params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        pull_gradient(bound, params, anchor),
        pull_gradient(single, params, anchor),
    )


@pytest.mark.parametrize("pull", [Pull(backbone, -1.0), Pull(backbone, 1.0, norm=3), Pull(backbone, np.nan)])
def test_a_term_that_makes_no_sense_is_refused(pull, params):
    with pytest.raises(UserError, match="1 or 2, and not negative"):
        strategies.bind(Strategy("x", penalties=(pull,)), strategies.unflatten(params), "resnet18")
