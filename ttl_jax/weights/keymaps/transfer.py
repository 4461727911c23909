"""Files of BiT, CLIP and PENet -> the names and layouts that papers.py knows, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

BIT_HEAD = "head.fc.weight"  # timm keeps BiT's classifier as a 1x1 convolution
# Big Transfer's .npz: resnet/block1/unit01/a/standardized_conv2d/kernel
BIT_BLOCK = re.compile(
    r"resnet/block(\d)/unit(\d+)/([abc])/(proj/)?(standardized_conv2d|group_norm)/(kernel|gamma|beta)"
)
BIT_OUTSIDE = {
    "resnet/root_block/standardized_conv2d/kernel": "stem.conv.weight",
    "resnet/group_norm/gamma": "norm.weight",
    "resnet/group_norm/beta": "norm.bias",
    "resnet/head/conv2d/kernel": BIT_HEAD,
    "resnet/head/conv2d/bias": "head.fc.bias",
}
# The text tower and what ties the two together.
CLIP_TEXT = re.compile(
    r"transformer\..*|token_embedding\.weight|positional_embedding|ln_final\.(weight|bias)"
    r"|text_projection|logit_scale|input_resolution|context_length|vocab_size"
)


def is_google_bit(names: Iterable[str]) -> bool:
    """Return True if a file is one of Big Transfer's own."""
    return "resnet/root_block/standardized_conv2d/kernel" in names


def from_google_bit(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names of timm and torch's layout; what is not known keeps its name."""
    return {
        _google_bit_name(key): value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
        for key, value in arrays.items()
    }


def _google_bit_name(key: str) -> str:
    match = BIT_BLOCK.fullmatch(key)
    if not match:
        return BIT_OUTSIDE.get(key, key)
    stage, block, place, projection, layer, leaf = match.groups()
    prefix = f"stages.{int(stage) - 1}.blocks.{int(block) - 1}."
    if projection:
        return f"{prefix}downsample.conv.weight"
    module = "conv" if layer == "standardized_conv2d" else "norm"
    return f"{prefix}{module}{'abc'.index(place) + 1}.{'bias' if leaf == 'beta' else 'weight'}"


def to_known(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Return a network's tensors under papers.py's names; others stay as they are."""
    if name.startswith("bit_"):
        arrays = from_google_bit(arrays) if is_google_bit(arrays) else arrays
        return {
            key: value[:, :, 0, 0] if key == BIT_HEAD and value.shape[2:] == (1, 1) else value
            for key, value in arrays.items()
        }
    if name.startswith("clip_") and any(key.startswith("visual.") for key in arrays):
        return {key: value for key, value in arrays.items() if not CLIP_TEXT.fullmatch(key)}
    if name.startswith("clip_"):  # the tower by itself
        return {key if key.startswith("fc.") else f"visual.{key}": value for key, value in arrays.items()}
    if name == "penet":  # the names in the authors' first checkpoints
        return {key.replace("xnet_blocks", "penet_blocks"): value for key, value in arrays.items()}
    return dict(arrays)


def as_exported(key: str, value: np.ndarray, name: str) -> np.ndarray:
    """The layout in which the original library keeps a tensor, where it is not the usual one."""
    return value[:, :, None, None] if name.startswith("bit_") and key == BIT_HEAD else value
