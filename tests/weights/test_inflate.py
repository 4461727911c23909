"""2D weights on volumes: a volume that repeats one slice has the 2D network's features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax import models, weights
from ttl_jax.errors import UserError
from ttl_jax.weights.initialise import flatten, unflatten

STEM = [(7, 1, 3), (3, 2, 1)]  # window, stride and padding in depth: convolution, max-pool


def in_depth(name, unit):
    """What a unit of a ResNet-50 or DenseNet does along the depth."""
    if unit == "stem":
        return STEM
    if unit.startswith("transition"):
        return [(1, 1, 0), (2, 2, 0)]
    halves = name.startswith("resnet") and unit.endswith("block1") and not unit.startswith("stage1")
    return [(3, 2 if halves else 1, 1)]


def untouched(name, slices):
    """For every unit the slices, first and one past the last, that no zero padded in depth reaches."""
    first, end, found = 0, slices, {}
    for unit in models.units(name):
        for window, stride, padding in in_depth(name, unit.name):
            slices = (slices + 2 * padding - window) // stride + 1
            places = [
                place
                for place in range(slices)
                if place * stride - padding >= first and place * stride - padding + window <= end
            ]
            first, end = (places[0], places[-1] + 1) if places else (0, 0)
        found[unit.name] = (first, end)
    return found


def random_weights(name, cut):
    """Variables with random statistics too."""
    leaves = flatten(weights.initialise(name, 3, cut=cut))
    rng = np.random.default_rng(0)
    for path, value in leaves.items():
        if path.endswith(("/mean", "/bias")):
            leaves[path] = rng.normal(0, 0.2, value.shape).astype(np.float32)
        elif path.endswith(("/var", "/scale")):
            leaves[path] = rng.uniform(0.5, 1.5, value.shape).astype(np.float32)
    return unflatten(leaves)


def both(name, how, slices, size, cut=None):
    """Logits and features by unit of a random image, and of the volume that repeats it."""
    variables = random_weights(name, cut)
    image = np.random.default_rng(1).normal(size=(1, size, size, 3)).astype(np.float32)
    volume = np.repeat(image[:, None], slices, axis=1)
    units = tuple(unit.name for unit in models.units(name))

    def run(network_name, variables, x):
        network = models.create(network_name, 3, cut=cut)
        return jax.jit(lambda v, x: network.apply(v, x, capture=units))(variables, jnp.asarray(x))

    inflated = weights.inflate(variables, how=how)
    return run(name, variables, image), run(f"{name}_3d", inflated, volume)


@pytest.mark.parametrize(("name", "cut"), [("resnet50", None), ("densenet121", "dense2/layer2")])
def test_centre_inflation_has_the_2d_features_at_every_unit_and_slice(name, cut):
    (logits, flat), (deep_logits, deep) = both(name, "centre", 6, 32, cut)
    for unit, value in flat.items():
        error = np.abs(deep[unit] - value[:, None]).max() / np.abs(value).max()
        assert error < 1e-5, unit
    np.testing.assert_allclose(deep_logits, logits, rtol=1e-5, atol=1e-5 * np.abs(logits).max())


# 231 slices are what the windows of ResNet-50 reach over; those of a whole DenseNet-121 over thousands.
@pytest.mark.parametrize(
    ("name", "slices", "cut"), [("resnet50", 231, None), ("densenet121", 56, "dense2/layer2")]
)
def test_mean_inflation_has_the_2d_features_wherever_no_padding_reaches(name, slices, cut):
    (_, flat), (_, deep) = both(name, "mean", slices, 16, cut)
    reached = untouched(name, slices)
    for unit, value in flat.items():
        first, end = reached[unit]
        assert first < end, f"no slice of {unit} is left to compare"
        error = np.abs(deep[unit][:, first:end] - value[:, None]).max() / np.abs(value).max()
        assert error < 1e-5, unit
    if first > 0:  # and nothing is promised beyond: zeros lower the response there
        assert np.abs(deep[unit][:, 0] - value).max() > 1e-3 * np.abs(value).max()


def test_kernels():
    kernel = np.arange(2 * 9, dtype=np.float32).reshape(3, 3, 1, 2)
    variables = {
        "params": {"conv": {"kernel": kernel}, "project": {"kernel": kernel[:1, :1]}},
        "batch_stats": {"norm": {"mean": np.ones(2)}},
    }
    mean = weights.inflate(variables, depth=5)["params"]
    assert mean["conv"]["kernel"].shape == (5, 3, 3, 1, 2)
    np.testing.assert_allclose(mean["conv"]["kernel"].sum(0), kernel, rtol=1e-6)
    assert mean["project"]["kernel"].shape == (1, 1, 1, 1, 2)
    centre = weights.inflate(variables, how="centre")
    np.testing.assert_array_equal(centre["params"]["conv"]["kernel"][1], kernel)
    assert not centre["params"]["conv"]["kernel"][[0, 2]].any()
    np.testing.assert_array_equal(centre["batch_stats"]["norm"]["mean"], np.ones(2))


@pytest.mark.parametrize(("name", "depth"), [("resnet18", 3), ("resnet34", None)])
@pytest.mark.parametrize("how", ["mean", "centre"])
def test_a_2d_file_loads_into_its_3d_namesake(torchvision_state, name, depth, how):
    state = torchvision_state(name)
    loaded = weights.load(state, f"{name}_3d", num_classes=3, cut="stage2/block1", inflation=how)
    flat = weights.load(state, name, num_classes=3, cut="stage2/block1")
    mine, theirs = flatten(loaded), flatten(weights.inflate(flat, depth, how))
    assert set(mine) == set(theirs)
    for path, value in theirs.items():
        np.testing.assert_array_equal(mine[path], value, err_msg=path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: weights.inflate(v, how="middle"), "inflation 'middle' .choose from: mean, centre"),
        (lambda v: weights.inflate(v, 4, "centre"), "odd for 'centre'"),
        (lambda v: weights.inflate(v, 0), "must be positive"),
        (lambda v: weights.inflate(weights.inflate(v)), "only 2D weights"),
    ],
)
def test_errors(call, message):
    with pytest.raises(UserError, match=message):
        call({"params": {"conv": {"kernel": np.ones((3, 3, 1, 1), np.float32)}}, "batch_stats": {}})
