"""BSS, DELTA and co-tuning against NumPy written from their formulas."""

import jax
import numpy as np
import pytest

from ttl_jax import strategies
from ttl_jax.errors import UserError
from ttl_jax.strategies.parts.bss import spectral_tail
from ttl_jax.strategies.parts.cotuning import source_cross_entropy
from ttl_jax.strategies.parts.delta import feature_distance


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (5, 5)])
@pytest.mark.parametrize("k", [1, 3])
def test_bss_is_the_smallest_singular_values_and_so_is_its_gradient(shape, k, rng):
    features = rng.normal(size=shape).astype(np.float32)
    u, s, vt = np.linalg.svd(features.astype(np.float64), full_matrices=False)
    value, gradient = jax.value_and_grad(lambda f: spectral_tail(f, k))(features)
    np.testing.assert_allclose(value, (s[-k:] ** 2).sum(), rtol=1e-4, atol=1e-5)
    expected = 2 * (u[:, -k:] * s[-k:]) @ vt[-k:]  # d sigma^2 = 2 sigma u v^T
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=2e-4)


def test_bss_of_equal_singular_values_has_a_finite_gradient():
    gradient = jax.grad(lambda f: spectral_tail(f, 1))(np.eye(4, dtype=np.float32))
    assert np.isfinite(gradient).all()


def test_the_distance_of_delta_is_its_sum_written_out(rng):
    features, source = (rng.normal(size=(3, 4, 5, 6)).astype(np.float32) for _ in range(2))
    attention = rng.dirichlet(np.ones(6)).astype(np.float32)
    total = 0.0
    for image in range(3):
        for channel in range(6):
            norm = np.linalg.norm(features[image, :, :, channel] - source[image, :, :, channel])
            total += 0.5 * 6 * attention[channel] * norm**2 / 20
    np.testing.assert_allclose(feature_distance(features, source, attention), total / 3, rtol=1e-5)
    no_way_back = jax.grad(lambda s: feature_distance(features, s, attention))(source)
    assert not np.asarray(no_way_back).any()


def test_the_source_task_is_a_cross_entropy_of_soft_labels(rng):
    logits, relation = rng.normal(size=(5, 7)), rng.dirichlet(np.ones(7), size=3)
    labels = np.array([0, 2, 1, 1, 0])
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -np.mean([relation[y] @ row for y, row in zip(labels, log_softmax, strict=True)])
    found = source_cross_entropy(
        logits.astype(np.float32), labels.astype(np.int32), relation.astype(np.float32)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("delta", [("stage1/block2", "stage2/block2", "stage3/block2", "stage4/block2")]),
        ("delta+layerwise(stage=3)", [("stage3/block2", "stage4/block2")]),  # below, nothing can differ
        ("delta+linear_probe", []),
        ("bss", [("stage4/block2",)]),
        ("bss+linear_probe", []),
        ("cotuning+linear_probe", [("stage4/block2",)]),  # the source head trains
        ("truncated(5)+delta", [("stage1/block2", "stage2/block2")]),
    ],
)
def test_a_term_captures_only_units_that_can_change(text, expected):
    from ttl_jax import weights

    strategy = strategies.parse(text)
    params = weights.initialise("resnet18", 2, cut=strategy.surgery.cut)["params"]
    (bound,) = strategies.bind(strategy, params, "resnet18")
    assert [item.capture for item in bound.parts if item.capture] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [("bss(k=0)", "k=0"), ("bss(weight=-1)", "not be negative"), ("delta(attention='x')", "attention='x'")],
)
def test_options_that_make_no_sense(text, message):
    from ttl_jax import weights

    with pytest.raises(UserError, match=message):
        strategies.bind(strategies.parse(text), weights.initialise("resnet18", 2)["params"], "resnet18")
