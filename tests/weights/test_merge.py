"""Strictness: what is wrong is all said at once; what is taken and what is not."""

import numpy as np
import pytest

from ttl_jax import weights
from ttl_jax.errors import UserError


def test_every_kind_of_fault_of_parameters_and_statistics_at_once(resnet18):
    broken = dict(resnet18)
    del broken["layer2.1.bn2.running_mean"], broken["layer3.0.downsample.0.weight"], broken["fc.bias"]
    broken["layer1.0.conv9.weight"] = np.zeros((64, 64, 3, 3), np.float32)
    broken["layer1.0.bn1.running_var"] = np.ones(63, np.float32)
    broken["layer4.0.conv1.weight"] = broken["layer4.0.conv1.weight"].transpose(2, 3, 1, 0)
    broken["layer4.1.conv1.weight"] = broken["layer4.1.conv1.weight"].astype(np.int8)
    with pytest.raises(UserError) as error:
        weights.load(broken, "resnet18", num_classes=1000)
    first, *faults = str(error.value).splitlines()
    assert "resnet18" in first and "7 names" in first
    assert [fault.strip() for fault in faults] == [
        "extra layer1.0.conv9.weight",
        "missing fc.bias",
        "missing layer2.1.bn2.running_mean",
        "missing layer3.0.downsample.0.weight",
        "shape of layer1.0.bn1.running_var: the file has (63,), the network wants (64,)",
        "shape of layer4.0.conv1.weight: the file has (3, 3, 256, 512), the network wants (512, 256, 3, 3)",
        "type of layer4.1.conv1.weight: the file has int8, the network wants floats",
    ]


def test_step_counters_may_be_there_or_not(resnet18):
    assert any(key.endswith("num_batches_tracked") for key in resnet18)
    without = {key: value for key, value in resnet18.items() if not key.endswith("num_batches_tracked")}
    _, report = weights.load_with_report(without, "resnet18")
    assert report.fresh == ()
    weights.load(resnet18, "resnet18")


def test_the_wrong_network_is_an_error_even_when_partial(resnet18):
    with pytest.raises(UserError, match="layer1.0.bn3.weight"):
        weights.load(resnet18, "resnet50", num_classes=2, partial=True)


@pytest.mark.parametrize("state", [{}, {"fc.weight": np.zeros((5, 512)), "fc.bias": np.zeros(5)}])
def test_nothing_is_not_a_partial_something(state):
    with pytest.raises(UserError, match="hold nothing of resnet18"):
        weights.load(state, "resnet18", num_classes=2, partial=True)


def test_a_part_of_a_unit_is_an_error_even_when_partial(resnet18):
    state = {key: value for key, value in resnet18.items() if not key.startswith("layer4.1.bn1")}
    with pytest.raises(UserError) as error:
        weights.load(state, "resnet18", partial=True)
    assert len(str(error.value).splitlines()) == 1 + 4  # scale, bias, mean, variance


def test_two_tensors_of_one_name_are_an_error(torchvision_state):
    state = torchvision_state("densenet121")
    state["features.denseblock1.denselayer1.norm.1.weight"] = np.zeros(64, np.float32)
    with pytest.raises(UserError, match="two tensors are features.denseblock1.denselayer1.norm1.weight"):
        weights.load(state, "densenet121")


def test_half_and_double_precision_become_single(resnet18):
    state = dict(resnet18)
    state["conv1.weight"] = resnet18["conv1.weight"].astype(np.float16)
    state["bn1.weight"] = resnet18["bn1.weight"].astype(np.float64)
    params = weights.load(state, "resnet18")["params"]["stem"]
    assert params["conv"]["kernel"].dtype == params["norm"]["scale"].dtype == np.float32
    np.testing.assert_array_equal(params["norm"]["scale"], resnet18["bn1.weight"])
    half = resnet18["conv1.weight"].astype(np.float16).astype(np.float32).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(params["conv"]["kernel"], half)
