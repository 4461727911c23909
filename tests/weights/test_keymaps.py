"""Key maps against the real names of torchvision, and the styles of other libraries."""

import gzip
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from ttl_jax import models, weights
from ttl_jax.errors import UserError
from ttl_jax.weights.initialise import flatten, template
from ttl_jax.weights.keymaps import canonical, names_of, to_torch
from ttl_jax.weights.keymaps.transfer import as_exported

NAMES = json.loads(gzip.decompress((Path(__file__).parent / "fixtures" / "names.json.gz").read_bytes()))


HEADS = {"resnet": "fc.", "densenet": "classifier.", "vgg": "classifier.6.", "efficientnet": "classifier.1."}


def drawn(rng, key, shape):
    """Random numbers; variances are no negative ones."""
    values = rng.standard_normal(shape, dtype=np.float32)
    return np.abs(values) if key.endswith("running_var") else values


@cache
def random_state(name, classes=5):
    """A torchvision state dict with random values and a head for so many classes."""
    rng = np.random.default_rng(0)
    head = next(value for family, value in HEADS.items() if name.startswith(family))
    return {
        key: drawn(rng, key, [classes, *shape[1:]] if key.startswith(head) else shape)
        for key, shape in NAMES[name].items()
    }


@cache
def narrow_vgg16():
    """VGG-16's state dict with 8 features in each fully connected layer, not 4096: renaming sees no more."""
    rng = np.random.default_rng(0)
    state = {}
    for key, shape in NAMES["vgg16"].items():
        if key.startswith("classifier."):
            shape = [8 if length in (4096, 1000) else length for length in shape]
        state[key] = rng.standard_normal(shape, dtype=np.float32)
    assert state["classifier.0.weight"].shape == (8, 25088)
    return state


def same_tensors(mine, theirs):
    assert set(mine) == set(theirs)
    for key in mine:
        np.testing.assert_array_equal(mine[key], theirs[key], err_msg=key)


def same(variables, others):
    mine, theirs = flatten(variables), flatten(others)
    assert set(mine) == set(theirs)
    for key in mine:
        np.testing.assert_array_equal(mine[key], theirs[key], err_msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_names_and_shapes_are_torchvisions(name):
    shapes = template(name, 1000)
    names = names_of(shapes, name)
    ours = {
        names[path]: list(
            as_exported(names[path], to_torch(path, np.broadcast_to(np.float32(0), leaf.shape)), name).shape
        )
        for path, leaf in shapes.items()
        if not path.endswith("classifier/fc1/kernel")  # 400 MB of zeros to reorder
    }
    theirs = {key: shape for key, shape in NAMES[name].items() if not key.endswith("num_batches_tracked")}
    if name.startswith("vgg"):
        assert theirs.pop("classifier.0.weight") == [4096, 25088]
    if name == "alexnet":
        assert theirs.pop("classifier.1.weight") == [4096, 9216]
    assert ours == theirs


def test_every_registered_network_but_lite0_has_its_real_names_here():
    assert set(NAMES) == set(models.names()) - {"efficientnet_lite0"}


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model.", "backbone."])
def test_wrappers_prefixes_are_taken_off(prefix):
    state = random_state("resnet18")
    wrapped = {prefix + key: value for key, value in state.items()}
    same(weights.load(wrapped, "resnet18"), weights.load(state, "resnet18"))


def test_old_densenet_names():
    state = random_state("densenet121")
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value
        for key, value in state.items()
    }
    assert set(old) != set(state)
    same(weights.load(old, "densenet121"), weights.load(state, "densenet121"))


def test_torchxrayvision_has_one_channel_and_operating_points():
    state = dict(random_state("densenet121", classes=18))
    state["features.conv0.weight"] = state["features.conv0.weight"][:, :1]
    state["op_threshs"] = np.zeros(18, np.float32)
    variables = weights.load(state, "densenet121")
    assert variables["params"]["stem"]["conv"]["kernel"].shape == (7, 7, 1, 64)
    assert variables["params"]["head"]["kernel"].shape == (1024, 18)


def test_timm_vgg_keeps_fully_connected_layers_as_convolutions():
    # timm: pre_logits.fc1 (4096, 512, 7, 7), pre_logits.fc2 (4096, 4096, 1, 1), head.fc
    state, timm = narrow_vgg16(), {}
    for key, value in state.items():
        if key.startswith("classifier.0."):
            key = key.replace("classifier.0", "pre_logits.fc1")
            value = value.reshape(-1, 512, 7, 7) if value.ndim == 2 else value
        elif key.startswith("classifier.3."):
            key = key.replace("classifier.3", "pre_logits.fc2")
            value = value[:, :, None, None] if value.ndim == 2 else value
        timm[key.replace("classifier.6", "head.fc")] = value
    assert {"pre_logits.fc1.weight", "head.fc.bias"} <= set(timm)
    same_tensors(canonical(timm, "vgg16"), state)


TIMM_B0 = {  # torchvision's place in a block -> timm's name, with and without expansion
    7: {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2.fc1": "se.conv_reduce",
        "2.fc2": "se.conv_expand", "3.0": "conv_pwl", "3.1": "bn3"},
    1: {"0.0": "conv_dw", "0.1": "bn1", "1.fc1": "se.conv_reduce", "1.fc2": "se.conv_expand",
        "2.0": "conv_pw", "2.1": "bn2"},
}  # fmt: skip


TIMM_OUTSIDE = {
    "features.0.0": "conv_stem", "features.0.1": "bn1", "features.8.0": "conv_head", "features.8.1": "bn2",
    "classifier.1": "classifier",
}  # fmt: skip


def test_timm_efficientnet_b0():
    state, timm = random_state("efficientnet_b0"), {}
    for key, value in state.items():
        match = re.fullmatch(r"features\.([1-7])\.(\d+)\.block\.(\d\.\w+)\.(\w+)", key)
        if match:
            table = TIMM_B0[1 if match[1] == "1" else 7]
            key = f"blocks.{int(match[1]) - 1}.{match[2]}.{table[match[3]]}.{match[4]}"
        for ours, theirs in TIMM_OUTSIDE.items():
            key = re.sub(f"^{re.escape(ours)}\\.", theirs + ".", key)
        timm[key] = value
    assert {"conv_stem.weight", "blocks.1.0.conv_pwl.weight", "bn2.running_var"} <= set(timm)
    same(weights.load(timm, "efficientnet_b0"), weights.load(state, "efficientnet_b0"))


def test_keras_densenet_names_and_layouts():
    state, keras = random_state("densenet121"), {}
    leaf = {"running_mean": "moving_mean", "running_var": "moving_variance", "bias": "beta"}
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        module, last = key.rsplit(".", 1)
        match = re.fullmatch(r"features\.denseblock(\d)\.denselayer(\d+)\.(norm|conv)(\d)", module)
        part = {"norm1": "0_bn", "conv1": "1_conv", "norm2": "1_bn", "conv2": "2_conv"}
        if match:
            layer = f"conv{int(match[1]) + 1}_block{match[2]}_{part[match[3] + match[4]]}"
        elif match := re.fullmatch(r"features\.transition(\d)\.(norm|conv)", module):
            layer = f"pool{int(match[1]) + 1}_{'bn' if match[2] == 'norm' else 'conv'}"
        else:
            layer = {"features.conv0": "conv1/conv", "features.norm0": "conv1/bn", "features.norm5": "bn",
                     "classifier": "predictions"}[module]  # fmt: skip
        if last == "weight":
            name = "kernel" if value.ndim > 1 else "gamma"
            value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        else:
            name = "bias" if module == "classifier" else leaf[last]
        keras[f"{layer}/{layer}/{name}:0"] = value
    same(weights.load(keras, "densenet121"), weights.load(state, "densenet121"))


@pytest.mark.parametrize("kernel, bias", [("kernel:0", "bias:0"), ("{}_W_1:0", "{}_b_1:0")])
def test_keras_vgg_flattens_height_width_channels(kernel, bias):  # names of newer and of the oldest files
    state, keras, names, place = narrow_vgg16(), {}, {}, 0
    for block, depth in enumerate((2, 2, 3, 3, 3), start=1):
        for number in range(1, depth + 1):
            names[f"features.{place}"] = f"block{block}_conv{number}"
            place += 2
        place += 1
    names |= {"classifier.0": "fc1", "classifier.3": "fc2", "classifier.6": "predictions"}
    for key, value in state.items():
        module, last = key.rsplit(".", 1)
        if module == "classifier.0" and value.ndim == 2:  # (out, C, H, W) -> (H, W, C, out)
            value = value.reshape(-1, 512, 7, 7).transpose(2, 3, 1, 0).reshape(25088, -1)
        elif value.ndim > 1:
            value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        leaf = (kernel if last == "weight" else bias).format(names[module])
        keras[f"{names[module]}/{leaf}"] = value
    same_tensors(canonical(keras, "vgg16"), state)


def test_keras_resnet_is_refused_with_the_reason():
    with pytest.raises(UserError, match="stride on the first 1x1"):
        weights.load({"conv1_conv/kernel:0": np.zeros((7, 7, 3, 64))}, "resnet50")
