"""Auto-RGN and Auto-SNR against NumPy written from Lee et al. 2023 and the authors' code."""

import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax import strategies
from ttl_jax.errors import UserError
from ttl_jax.strategies.parts.measured_rates import _snr

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
    (rates,) = bound.parts
    sums = rates.initial()
    for gradients in batches:
        sums = rates.add(sums, gradients, params)
    return {path: float(value) for path, value in rates.multipliers(sums, len(batches)).items()}


def mean_ratio(paths, params, batches):
    return np.mean(
        [
            np.sqrt(sum((g[path] ** 2).sum() for path in paths))
            / np.sqrt(sum((params[path] ** 2).sum() for path in paths))
            for g in batches
        ]
    )


def backbone(ratios):
    """Of what counts: neither head nor norms."""
    return [ratio for path, ratio in ratios.items() if not path.startswith("head") and "norm" not in path]


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])  # ratios below 1 and above are divided alike
@pytest.mark.parametrize(("norm", "scale"), [("max", np.max), ("mean", np.mean)])
def test_rgn_of_every_tensor_over_the_backbone_s(norm, scale, size, params, batches):
    batches = [{path: np.float32(size) * leaf for path, leaf in each.items()} for each in batches]
    ratios = {path: mean_ratio([path], params, batches) for path in params}
    divisor = scale(backbone(ratios))
    most = max(backbone(ratios))  # for norms too
    expected = {path: 1.0 if "head" in path else min(ratio, most) / divisor for path, ratio in ratios.items()}
    assert measure(f"auto_rgn(norm='{norm}')", params, batches) == pytest.approx(expected, rel=1e-5)
    divisor = scale(list(ratios.values()))
    expected = {path: ratio / divisor for path, ratio in ratios.items()}
    assert measure(f"auto_rgn(norm='{norm}', over='all')", params, batches) == pytest.approx(
        expected, rel=1e-5
    )


def test_rgn_that_nothing_divides(params, batches):
    ratios = {path: mean_ratio([path], params, batches) for path in params}
    assert measure("auto_rgn(norm='none', over='all')", params, batches) == pytest.approx(ratios, rel=1e-5)
    most = max(backbone(ratios))
    expected = {path: 1.0 if "head" in path else min(ratio, most) for path, ratio in ratios.items()}
    assert measure("auto_rgn(norm='none')", params, batches) == pytest.approx(expected, rel=1e-5)


def test_a_fresh_head_does_not_freeze_the_backbone(params, batches):
    """A small head has a large relative gradient: as the divisor it leaves the backbone next to nothing."""
    params["head/kernel"] *= 1e-4
    slow = measure("auto_rgn(over='all')", params, batches)
    assert max(backbone(slow)) < 1e-3 and slow["head/kernel"] == 1
    found = measure("auto_rgn", params, batches)
    assert max(backbone(found)) == pytest.approx(1) and found["head/kernel"] == found["head/bias"] == 1


def test_a_norm_s_bias_near_zero_does_not_freeze_the_kernels(params, batches):
    """Lee et al. measure no norms; one takes its own ratio, up to the largest multiplier."""
    params["stem/norm/bias"] *= 1e-4
    slow = measure("auto_rgn(over='all')", params, batches)
    assert slow["stem/norm/bias"] == 1 and slow["stem/conv/kernel"] < 1e-3
    found = measure("auto_rgn", params, batches)
    assert max(backbone(found)) == pytest.approx(1) and found["stem/norm/bias"] == pytest.approx(1)
    kernel, scale = (mean_ratio([path], params, batches) for path in ("stem/conv/kernel", "stem/norm/scale"))
    assert found["stem/norm/scale"] / found["stem/conv/kernel"] == pytest.approx(scale / kernel, rel=1e-5)


def test_where_norms_alone_train_they_count(params, batches):
    ratios = {path: mean_ratio([path], params, batches) for path in params if "norm" in path}
    expected = {path: ratio / max(ratios.values()) for path, ratio in ratios.items()}
    assert measure("norm_only+auto_rgn", params, batches) == pytest.approx(
        expected | {"head/kernel": 1.0, "head/bias": 1.0}, rel=1e-5
    )


def test_where_the_head_alone_trains_nothing_is_measured(params, batches):
    assert measure("linear_probe+auto_rgn", params, batches) == {"head/kernel": 1.0, "head/bias": 1.0}


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("unit", [["stem/conv/kernel", "stem/norm/bias", "stem/norm/scale"], ["stage1/block1/conv1/kernel"],
                  ["head/bias", "head/kernel"]]),
        ("layer", [["stem/conv/kernel"], ["stem/norm/bias", "stem/norm/scale"],
                   ["stage1/block1/conv1/kernel"], ["head/bias", "head/kernel"]]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("over", ["all", "backbone"])
def test_rgn_of_a_group_is_that_of_its_tensors_together(by, over, groups, params, batches):
    ratios = {tuple(group): mean_ratio(group, params, batches) for group in groups}
    measured = groups if over == "all" else groups[:-1]
    counted = [group for group in measured if over == "all" or not all("norm" in path for path in group)]
    largest = max(ratios[tuple(group)] for group in counted)
    expected = {
        path: min(ratio, largest) / largest if list(group) in measured else 1.0
        for group, ratio in ratios.items()
        for path in group
    }
    found = measure(f"auto_rgn(by='{by}', over='{over}')", params, batches)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("zero", ["head/bias", "stem/norm/bias"])
def test_a_group_of_zeros_takes_the_largest_ratio_and_does_not_count(zero, params, batches):
    params[zero] = np.zeros_like(params[zero])
    others = {path: mean_ratio([path], params, batches) for path in params if path != zero}
    found = measure("auto_rgn(norm='mean', over='all')", params, batches)
    assert found[zero] == pytest.approx(max(others.values()) / np.mean(list(others.values())), rel=1e-5)


def test_one_group_that_counts_is_its_own_mean(params, batches):
    paths = ["stem/conv/kernel", "stage1/block1/conv1/kernel"]
    params[paths[1]] = np.zeros_like(
        params[paths[1]]
    )  # its ratio is no number: the stem's kernel alone counts
    found = measure("auto_rgn(norm='mean')", params, batches)
    assert [found[path] for path in paths] == pytest.approx([1, 1], rel=1e-5)


def test_gradients_of_zero_stop_every_tensor_and_are_no_nan(params):
    still = [{path: np.zeros_like(leaf) for path, leaf in params.items()}]
    assert set(measure("auto_rgn(over='all')", params, still).values()) == {0.0}


def test_snr_is_a_threshold_on_the_mean_over_batches(params, batches):
    def snr(gradient):  # torch.var over dim 0: output channels, last here, unbiased
        return (gradient**2 / (gradient.var(axis=-1, ddof=1, keepdims=True) + 1e-8)).mean()

    means = {path: np.mean([snr(g[path].astype(np.float64)) for g in batches]) for path in params}
    threshold = float(np.median(list(means.values())))
    expected = {path: float(value >= threshold * 0.999) for path, value in means.items()}
    assert measure(f"auto_snr(threshold={threshold * 0.999}, over='all')", params, batches) == expected
    assert set(expected.values()) == {0.0, 1.0}


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_snr_of_few_channels_has_the_unbiased_variance(channels, rng):
    gradient = rng.normal(size=(5, channels))
    variance = gradient.var(axis=-1, ddof=1, keepdims=True) if channels > 1 else 0  # of one there is none
    expected = (gradient**2 / (variance + 1e-8)).mean()
    assert float(_snr([jnp.asarray(gradient, jnp.float32)], [])) == pytest.approx(expected, rel=1e-3)


def test_snr_never_stops_a_fresh_head(params, batches):
    found = measure("auto_snr(threshold=1e9)", params, batches)
    assert {path for path, value in found.items() if value} == {"head/kernel", "head/bias"}


@pytest.mark.parametrize("key", ["auto_rgn", "auto_snr"])
def test_the_originals_leave_norms_out_reset_the_moments_and_measure_the_head(key, params):
    (bound,) = strategies.bind(
        strategies.parse(f"{key}(paper_faithful=True)"), strategies.unflatten(params), "resnet18"
    )
    assert not [path for path in bound.trainable if "norm" in path]
    assert "stem" in bound.still  # as model.eval(): no statistics move
    (rates,) = bound.parts
    assert rates.part.reset_moments and not rates.full
    assert {path for _, paths in rates.groups for path in paths} == set(bound.trainable)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("auto_rgn(norm='maxi')", "norm='maxi'"),
        ("auto_rgn(by='leaf')", "by='leaf'"),
        ("auto_snr(refresh='step')", "refresh='step'"),
        ("auto_rgn(batches=0)", "batches=0"),
        ("auto_rgn(over='head')", "over='head'"),
        ("auto_rgn(refresh='batch', reset_moments=True)", "no moment would ever be kept"),
    ],
)
def test_options_that_do_not_exist(text, message, params):
    with pytest.raises(UserError, match=message):
        strategies.bind(strategies.parse(text), strategies.unflatten(params), "resnet18")
