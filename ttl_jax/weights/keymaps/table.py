"""One tensor at a time: our path <-> the original name, and its layout on either side."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from ttl_jax import registry
from ttl_jax.weights.keymaps.styles import normalise
from ttl_jax.weights.keymaps.torchvision import rules

LEAVES = {
    "params/kernel": "weight",
    "params/scale": "weight",
    "params/bias": "bias",
    "params/positions": "positional_embedding",
    "batch_stats/mean": "running_mean",
    "batch_stats/var": "running_var",
}
GRIDS = {512 * 7 * 7: (512, 7, 7), 256 * 6 * 6: (256, 6, 6)}  # what fc1 of VGG and AlexNet flattens


def _fill(template: str, match: re.Match[str]) -> str:
    def value(found: re.Match[str]) -> str:
        text = match[int(found[1])]
        return str(int(text) - 1) if found[2] else text

    return re.sub(r"\{(\d)(-1)?\}", value, template)


def names_of(paths: Iterable[str], name: str) -> dict[str, str]:
    """Return the original names of our leaves.

    Args:
        paths: Paths such as "params/stem/conv/kernel" or "batch_stats/stem/norm/mean".
        name: Name of the network.

    Returns:
        {our path: their name}; every path of a registered network has one. A network of the user's own has
        torch's names for the same paths: stem.conv.weight, stem.norm.running_mean.
    """
    if registry.is_own("backbone", name):
        return {path: _as_torch_names(path) for path in paths}
    compiled = [(re.compile(ours), theirs) for ours, theirs in rules(name)]
    names = {}
    for path in paths:
        collection, *module, leaf = path.split("/")
        joined = "/".join(module)
        # The first rule that matches wins.
        for pattern, template in compiled:
            match = pattern.fullmatch(joined)
            if match:
                names[path] = f"{_fill(template, match)}.{LEAVES[f'{collection}/{leaf}']}"
                break
        else:
            raise KeyError(f"{name}: no original name for {path}")
    return names


def _as_torch_names(path: str) -> str:
    collection, *module, leaf = path.split("/")
    return ".".join((*module, LEAVES.get(f"{collection}/{leaf}", leaf)))


def canonical(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Return a file's tensors under their original (torchvision) names, whatever library wrote them."""
    return dict(arrays) if registry.is_own("backbone", name) else normalise(arrays, name)


def _grid(path: str, length: int) -> tuple[int, int, int] | None:
    """(channels, height, width) of the map that a linear layer flattens; None for other layers."""
    return GRIDS.get(length) if path.endswith("classifier/fc1/kernel") else None


def to_ours(path: str, value: np.ndarray) -> np.ndarray:
    """Map torch's layout to ours: OI[D]HW -> [D]HWIO, (out, in) -> (in, out), fc1's CHW flatten -> HWC."""
    if not path.endswith("/kernel"):
        return value
    if value.ndim == 2:
        if grid := _grid(path, value.shape[1]):
            value = value.reshape(-1, *grid).transpose(0, 2, 3, 1).reshape(value.shape)
        return value.T
    return np.moveaxis(value, (0, 1), (-1, -2))


def to_torch(path: str, value: np.ndarray) -> np.ndarray:
    """Invert `to_ours`, exactly."""
    if not path.endswith("/kernel"):
        return value
    if value.ndim == 2:
        value = value.T
        if grid := _grid(path, value.shape[1]):
            channels, height, width = grid
            value = value.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
            value = value.reshape(value.shape[0], -1)
        return np.ascontiguousarray(value)
    return np.ascontiguousarray(np.moveaxis(value, (-1, -2), (0, 1)))
