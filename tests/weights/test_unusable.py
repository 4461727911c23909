"""Weights that no network can be trained from are refused by the tensor's name."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from ttl_jax import weights
from ttl_jax.errors import UserError


def one(value):
    """Change one number of a tensor."""

    def change(tensor):
        tensor = tensor.copy()
        tensor.flat[tensor.size // 2] = value
        return tensor

    return change


FAULTS = {
    "nan": ("layer2.0.conv1.weight", one(np.nan), "NaN or infinite (1 of 73728)"),
    "infinite": ("fc.bias", one(np.inf), "NaN or infinite (1 of 1000)"),
    "infinite mean": ("bn1.running_mean", one(-np.inf), "NaN or infinite (1 of 64)"),
    "beyond single": ("bn1.bias", lambda t: t.astype(np.float64) * 1e300, "NaN or infinite (64 of 64)"),
    "negative variance": ("layer3.1.bn2.running_var", one(-1e-3), "negative variances (1 of 256)"),
    "no variance": ("layer1.0.bn1.running_var", np.zeros_like, "zero throughout"),
    "no weights": ("layer4.0.downsample.0.weight", np.zeros_like, "zero throughout"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_the_tensor_is_named_in_one_sentence(resnet18, tmp_path, fault):
    key, change, said = FAULTS[fault]
    file = tmp_path / "weights.safetensors"
    save_file({**resnet18, key: change(resnet18[key])}, file)
    with pytest.raises(UserError) as error:
        weights.load(file, "resnet18")
    assert f"{file}: {key} " in str(error.value) and said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_images_have_three_channels_or_one(resnet18, channels):
    kernel = np.resize(resnet18["conv1.weight"], (64, channels, 7, 7))
    with pytest.raises(UserError, match=rf"images of {channels} channels \(conv1.weight is"):
        weights.load({**resnet18, "conv1.weight": kernel}, "resnet18", num_classes=2, cut=2)


def test_what_is_not_taken_is_not_judged(resnet18):
    state = {**resnet18, "layer4.0.conv1.weight": one(np.nan)(resnet18["layer4.0.conv1.weight"])}
    weights.load(state, "resnet18", num_classes=2, cut=3)
    state = {**resnet18, "fc.weight": one(np.nan)(resnet18["fc.weight"])}
    weights.load(state, "resnet18", num_classes=7)  # a fresh head


def test_zeros_that_networks_have(resnet18):
    # a head, and the last scale of a residual block, may start from zeros; so may biases and means
    zeros = ("fc.weight", "fc.bias", "layer1.0.bn2.weight", "layer1.0.bn2.bias", "layer1.0.bn2.running_mean")
    loaded = weights.load({**resnet18, **{key: np.zeros_like(resnet18[key]) for key in zeros}}, "resnet18")
    assert not loaded["params"]["head"]["kernel"].any()
