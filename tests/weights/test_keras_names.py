"""Keras files of every age: names as Keras 1, 2 and 3 write them."""

import re

import numpy as np
import pytest

from ttl_jax import weights
from ttl_jax.errors import UserError

CONVOLUTIONS = {  # torchvision's place in VGG-16 -> Keras' layer
    0: "block1_conv1", 2: "block1_conv2", 5: "block2_conv1", 7: "block2_conv2", 10: "block3_conv1",
    12: "block3_conv2", 14: "block3_conv3", 17: "block4_conv1", 19: "block4_conv2", 21: "block4_conv3",
    24: "block5_conv1", 26: "block5_conv2", 28: "block5_conv3",
}  # fmt: skip
# The first is how Keras' published VGG-16 file has it, the last how Keras 3 saves to .h5.
STYLES = {
    "oldest": ("{0}/{0}_W_1:0", "{0}/{0}_b_1:0"),
    "keras 2": ("{0}/{0}/kernel:0", "{0}/{0}/bias:0"),
    "keras 3": ("model_weights/{0}/{0}/kernel", "model_weights/{0}/{0}/bias"),
}


@pytest.fixture(scope="module")
def convolutions(torchvision_state):
    state = torchvision_state("vgg16_bn")  # the same convolutions as VGG-16's, at other places
    places = [key for key, value in state.items() if key.startswith("features") and value.ndim == 4]
    return {
        place: (state[key], state[key.replace("weight", "bias")])
        for place, key in zip(CONVOLUTIONS, places, strict=True)
    }


@pytest.mark.parametrize("style", STYLES)
def test_vgg_by_the_names_of_its_time(convolutions, style):
    kernel_name, bias_name = STYLES[style]
    keras = {}
    for place, layer in CONVOLUTIONS.items():
        kernel, bias = convolutions[place]
        keras[kernel_name.format(layer)] = kernel.transpose(2, 3, 1, 0)
        keras[bias_name.format(layer)] = bias
    keras["optimizer_weights/adam/block1_conv1_kernel_momentum"] = np.zeros(3)
    variables, report = weights.load_with_report(keras, "vgg16", num_classes=2, head="gap")
    assert report.fresh == ("head",)
    back = weights.export_torch(variables, "vgg16")
    for place, (kernel, bias) in convolutions.items():
        np.testing.assert_array_equal(back[f"features.{place}.weight"], kernel)
        np.testing.assert_array_equal(back[f"features.{place}.bias"], bias)


def test_a_first_layer_for_another_image_size_is_an_error_not_a_crash():
    keras = {
        "fc1/fc1/kernel:0": np.zeros((4 * 4 * 512, 8), np.float32),
        "fc1/fc1/bias:0": np.zeros(8, np.float32),
    }
    with pytest.raises(UserError, match=re.escape("shape of classifier.0.weight: the file has (8, 8192)")):
        weights.load(keras, "vgg16", num_classes=2)


def test_a_family_that_keras_has_otherwise_is_refused():
    keras = {"stem_conv/stem_conv/kernel:0": np.zeros((3, 3, 3, 32), np.float32)}
    with pytest.raises(UserError, match="VGG and DenseNet, not for 'efficientnet_b0'"):
        weights.load(keras, "efficientnet_b0", num_classes=2)
