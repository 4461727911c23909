"""Auto-RGN and Auto-SNR against NumPy written from Lee et al. 2023 and the authors' code."""

import numpy as np
import pytest

from ttl_jax import strategies
from ttl_jax.errors import UserError
from ttl_jax.strategies import probe

SHAPES = {
    "stem": {"conv": {"kernel": (3, 3, 3, 4)}, "norm": {"scale": (4,), "bias": (4,)}},
    "stage1": {"block1": {"conv1": {"kernel": (3, 3, 4, 4)}}},
    "head": {"kernel": (4, 2), "bias": (2,)},
}


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def params(rng):
    return {
        path: rng.normal(size=shape).astype(np.float32) for path, shape in strategies.flatten(SHAPES).items()
    }


@pytest.fixture
def batches(params, rng):
    """Gradients of three batches."""
    return [
        {path: rng.normal(size=leaf.shape).astype(np.float32) * (1 + number) for path, leaf in params.items()}
        for number in range(3)
    ]


def measure(text, params, batches):
    (bound,) = strategies.bind(strategies.parse(text), strategies.unflatten(params), "resnet18")
    sums = probe.initial(bound.probe)
    for gradients in batches:
        sums = probe.update(bound.probe, sums, gradients, params)
    return {path: float(value) for path, value in probe.weights(bound.probe, sums, len(batches)).items()}


def mean_ratio(paths, params, batches):
    return np.mean(
        [
            np.sqrt(sum((g[path] ** 2).sum() for path in paths))
            / np.sqrt(sum((params[path] ** 2).sum() for path in paths))
            for g in batches
        ]
    )


@pytest.mark.parametrize(("norm", "scale"), [("max", np.max), ("mean", np.mean), ("none", lambda r: 1.0)])
def test_rgn_of_every_tensor(norm, scale, params, batches):
    ratios = {path: mean_ratio([path], params, batches) for path in params}
    expected = {path: ratio / scale(list(ratios.values())) for path, ratio in ratios.items()}
    assert measure(f"auto_rgn(norm='{norm}')", params, batches) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("unit", [["stem/conv/kernel", "stem/norm/bias", "stem/norm/scale"], ["stage1/block1/conv1/kernel"],
                  ["head/bias", "head/kernel"]]),
        ("layer", [["stem/conv/kernel"], ["stem/norm/bias", "stem/norm/scale"],
                   ["stage1/block1/conv1/kernel"], ["head/bias", "head/kernel"]]),
    ],
)  # fmt: skip
def test_rgn_of_a_group_is_that_of_its_tensors_together(by, groups, params, batches):
    ratios = [mean_ratio(group, params, batches) for group in groups]
    expected = {
        path: ratio / max(ratios) for ratio, group in zip(ratios, groups, strict=True) for path in group
    }
    assert measure(f"auto_rgn(by='{by}')", params, batches) == pytest.approx(expected, rel=1e-5)


def test_a_group_of_zeros_takes_the_largest_ratio_and_does_not_count(params, batches):
    params["head/bias"] = np.zeros(2, np.float32)
    others = {path: mean_ratio([path], params, batches) for path in params if path != "head/bias"}
    found = measure("auto_rgn(norm='mean')", params, batches)
    assert found["head/bias"] == pytest.approx(
        max(others.values()) / np.mean(list(others.values())), rel=1e-5
    )


def test_snr_is_a_threshold_on_the_mean_over_batches(params, batches):
    def snr(gradient):  # torch.var over dim 0: output channels, last here, unbiased
        return (gradient**2 / (gradient.var(axis=-1, ddof=1, keepdims=True) + 1e-8)).mean()

    means = {path: np.mean([snr(g[path].astype(np.float64)) for g in batches]) for path in params}
    threshold = float(np.median(list(means.values())))
    expected = {path: float(value >= threshold * 0.999) for path, value in means.items()}
    assert measure(f"auto_snr(threshold={threshold * 0.999})", params, batches) == expected
    assert set(expected.values()) == {0.0, 1.0}


def test_the_originals_leave_norms_out_and_reset_the_moments(params):
    (bound,) = strategies.bind(
        strategies.parse("auto_rgn(paper_faithful=True)"), strategies.unflatten(params), "resnet18"
    )
    assert not [path for path in bound.trainable if "norm" in path]
    assert bound.probe.probe.reset_moments and bound.probe.probe.moving


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("auto_rgn(norm='maxi')", "norm='maxi'"),
        ("auto_rgn(by='leaf')", "by='leaf'"),
        ("auto_snr(refresh='step')", "refresh='step'"),
        ("auto_rgn(batches=0)", "batches=0"),
        ("auto_rgn(refresh='batch', reset_moments=True)", "no moment would ever be kept"),
    ],
)
def test_options_that_do_not_exist(text, message, params):
    with pytest.raises(UserError, match=message):
        strategies.bind(strategies.parse(text), strategies.unflatten(params), "resnet18")
