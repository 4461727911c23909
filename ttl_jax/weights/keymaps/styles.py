"""Other libraries' names and layouts -> torchvision's: timm, torchxrayvision, old DenseNet, Keras."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from ttl_jax.errors import UserError
from ttl_jax.models.efficientnet import STAGES
from ttl_jax.weights.keymaps.transfer import is_google_bit, to_known

PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "net.")
# Buffers that are not weights: step counters, torchxrayvision's operating points.
IGNORED = re.compile(r"(.*\.)?(num_batches_tracked|op_threshs|op_thresh|pathologies)")

RENAMES: dict[str, tuple[tuple[str, str], ...]] = {
    "densenet": (
        # torchvision before 0.4 and its weight files: norm.1 for norm1
        (r"(features\.denseblock\d+\.denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),
    ),
    "vgg": (  # timm
        (r"pre_logits\.fc1\.", "classifier.0."),
        (r"pre_logits\.fc2\.", "classifier.3."),
        (r"head\.fc\.", "classifier.6."),
    ),
    "efficientnet_b0": (  # timm; its first stage has no expansion and its blocks count from 0
        (r"conv_stem\.", "features.0.0."),
        (r"bn1\.", "features.0.1."),
        (r"conv_head\.", "features.8.0."),
        (r"bn2\.", "features.8.1."),
        (r"classifier\.(weight|bias)", r"classifier.1.\1"),
    ),
}
TIMM_BLOCK = {
    True: {"conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1", "se.conv_reduce": "2.fc1",
           "se.conv_expand": "2.fc2", "conv_pwl": "3.0", "bn3": "3.1"},
    False: {"conv_dw": "0.0", "bn1": "0.1", "se.conv_reduce": "1.fc1", "se.conv_expand": "1.fc2",
            "conv_pw": "2.0", "bn2": "2.1"},
}  # fmt: skip
KERAS_LEAF = {
    "kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias",
    "moving_mean": "running_mean", "moving_variance": "running_var", "W": "weight", "b": "bias",
}  # fmt: skip
# As in block1_conv1/kernel:0 and, in the oldest files, block1_conv1/block1_conv1_W_1:0
KERAS_NAME = re.compile(rf"(?:.*[/_])?({'|'.join(KERAS_LEAF)})(?:_\d+)?(?::0)?")
KERAS_VGG_GRID = (7, 7, 512)


def normalise(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Give every tensor its torchvision name and torch layout; unknown names stay as they are.

    Raises:
        UserError: a Keras file of a family whose Keras network is another one.
    """
    if is_keras(arrays) and not is_google_bit(arrays):
        return _keras(arrays, name)
    named = {key: value for key, value in arrays.items() if not IGNORED.fullmatch(key)}
    named = to_known(_without_prefixes(named), name)
    timm_b0 = name == "efficientnet_b0" and any(key.startswith("blocks.") for key in named)
    renamed: dict[str, np.ndarray] = {}
    for key, value in named.items():
        new = _timm_block(key) if timm_b0 else key
        for family, renames in RENAMES.items():
            if name.startswith(family) and (family != "efficientnet_b0" or timm_b0):
                for pattern, replacement in renames:
                    new = re.sub("^" + pattern, replacement, new)
        if name.startswith("vgg") and new.startswith("classifier.") and value.ndim == 4:
            value = value.reshape(value.shape[0], -1)  # timm keeps fc1 and fc2 as convolutions
        if new in renamed:
            raise UserError(f"weights do not fit {name}: two tensors are {new}, one is called {key}")
        renamed[new] = value
    return renamed


def _without_prefixes(named: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Strip what wrappers put before a network's names; what stands beside the network is left out, aloud."""
    # Twice, because a file may carry two prefixes in either order.
    for prefix in PREFIXES * 2:  # as DataParallel around a wrapper
        own = {key.removeprefix(prefix): value for key, value in named.items() if key.startswith(prefix)}
        if 2 * len(own) <= len(named):
            continue
        beside = [key for key in named if not key.startswith(prefix)]
        if beside:
            some = ", ".join(repr(key[:60]) for key in beside[:3])
            print(f"weights: the network is {prefix}*; left out {len(beside)} beside it ({some})", flush=True)
        named = own
    return named


def is_keras(arrays: Iterable[str]) -> bool:
    """Return True if the names are Keras': layer/kernel, with slashes or TensorFlow's ":0"."""
    return any(
        ("/" in key or ":" in key)
        and not key.startswith(("params/", "batch_stats/"))
        and (match := KERAS_NAME.fullmatch(key)) is not None
        and match[1] in ("kernel", "gamma", "W")
        for key in arrays
    )


def _timm_block(key: str) -> str:
    match = re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(.+)\.(\w+)", key)
    if not match:
        return key
    stage, block, module, leaf = int(match[1]), match[2], match[3], match[4]
    parts = TIMM_BLOCK[STAGES[stage][0] != 1]
    return f"features.{stage + 1}.{block}.block.{parts[module]}.{leaf}" if module in parts else key


def _keras(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    if name.startswith("resnet"):
        raise UserError(
            "weights of Keras' ResNet do not fit: it puts the stride on the first 1x1 convolution "
            "(v1) and has biases; use torchvision's file for this network"
        )
    if not name.startswith(("vgg", "densenet")):
        raise UserError(f"Keras files are read for VGG and DenseNet, not for {name!r}")
    renamed: dict[str, np.ndarray] = {}
    for key, value in arrays.items():
        if key.startswith(("optimizer_weights/", "optimizer/")):  # of a saved training
            continue
        path, _, _ = key.rpartition("/")
        module = _keras_vgg(path, name) if name.startswith("vgg") else _keras_densenet(path)
        match = KERAS_NAME.fullmatch(key)
        if module is None or match is None:
            renamed[key] = value
        else:
            renamed[f"{module}.{KERAS_LEAF[match[1]]}"] = _keras_layout(value, module)
    return renamed


def _keras_layout(value: np.ndarray, module: str) -> np.ndarray:
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    height, width, channels = KERAS_VGG_GRID
    if module == "classifier.0" and value.ndim == 2 and value.shape[0] == height * width * channels:
        # Keras flattens height, width, channels; torch channels, height, width
        grid = value.reshape(height, width, channels, -1)
        return grid.transpose(3, 2, 0, 1).reshape(value.shape[1], -1)
    return value.T if value.ndim == 2 else value


def _keras_vgg(path: str, name: str) -> str | None:
    from ttl_jax.weights.keymaps.torchvision import rules

    layer = path.split("/")[-1]
    match = re.fullmatch(r"block(\d)_conv(\d)", layer)
    if match:
        return dict(rules(name)).get(f"stage{match[1]}/conv{match[2]}")
    return {"fc1": "classifier.0", "fc2": "classifier.3", "predictions": "classifier.6"}.get(layer)


def _keras_densenet(path: str) -> str | None:
    names: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
        (
            r"conv(\d)_block(\d+)_0_bn",
            lambda m: f"denseblock{int(m[1]) - 1}.denselayer{m[2]}.norm1",
        ),
        (
            r"conv(\d)_block(\d+)_1_conv",
            lambda m: f"denseblock{int(m[1]) - 1}.denselayer{m[2]}.conv1",
        ),
        (
            r"conv(\d)_block(\d+)_1_bn",
            lambda m: f"denseblock{int(m[1]) - 1}.denselayer{m[2]}.norm2",
        ),
        (
            r"conv(\d)_block(\d+)_2_conv",
            lambda m: f"denseblock{int(m[1]) - 1}.denselayer{m[2]}.conv2",
        ),
        (r"pool(\d)_bn", lambda m: f"transition{int(m[1]) - 1}.norm"),
        (r"pool(\d)_conv", lambda m: f"transition{int(m[1]) - 1}.conv"),
        (r"conv1[/_]conv", lambda m: "conv0"),
        (r"conv1[/_]bn", lambda m: "norm0"),
    )
    for pattern, replacement in names:
        match = re.search(rf"(?:^|/){pattern}$", path)
        if match:
            return "features." + replacement(match)
    last = path.split("/")[-1]
    return {"bn": "features.norm5", "fc1000": "classifier", "predictions": "classifier"}.get(last)
