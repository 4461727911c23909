"""Inflation of 2D weights to 3D, to start training on volumes from weights learned on images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ttl_jax.errors import UserError, nearest
from ttl_jax.typing import Variables
from ttl_jax.weights.initialise import flatten, unflatten

HOW = ("mean", "centre")


def inflate(variables: Variables, depth: int | None = None, how: str = "mean") -> Variables:
    """Give every 2D convolution a depth (I3D; Carreira and Zisserman 2017).

    On a volume that repeats one slice the 3D network computes the 2D network's features. With "centre"
    this holds everywhere. With "mean" it holds for the slices whose windows lie within the volume:
    zeros padded in depth lower the response of the others, for each unit those in reach of an end.
    It holds where pooling is the same in 2D and 3D, so not above the stem of `resnet18_3d`, which has
    no max-pool.

    Args:
        variables: {"params", "batch_stats"} of a ported 2D ResNet or DenseNet, whole or cut.
        depth: Depth of every window wider than one pixel. None makes it as deep as wide, as in all of our 3D
            networks but `resnet18_3d`, whose windows are 3 deep. 1x1 windows become 1x1x1.
        how: "mean" (every slice of the window has the 2D weights divided by the depth) or "centre" (the
            middle slice has them, the others are zero).

    Returns:
        Variables of the 3D network, in the same tree.

    Raises:
        UserError: another `how`, a depth without a middle, or weights that are 3D already.
    """
    return unflatten(inflate_leaves(flatten(variables), depth, how))


def inflate_leaves(leaves: Mapping[str, np.ndarray], depth: int | None, how: str) -> dict[str, np.ndarray]:
    """`inflate` on {"params/stem/conv/kernel": array}; see there."""
    if how not in HOW:
        raise UserError(f"inflation {how!r}{nearest(how, HOW)}")
    if depth is not None and (depth < 1 or (how == "centre" and depth % 2 == 0)):
        raise UserError(f"inflation depth={depth} must be positive, and odd for 'centre'")
    return {path: _inflated(path, np.asarray(value), depth, how) for path, value in leaves.items()}


def _inflated(path: str, value: np.ndarray, depth: int | None, how: str) -> np.ndarray:
    if not path.endswith("/kernel") or value.ndim == 2:
        return value
    if value.ndim != 4:
        raise UserError(f"{path} has {value.ndim} axes: only 2D weights (height, width, in, out) inflate")
    height = value.shape[0]
    slices = 1 if height == 1 else depth or height
    if how == "mean":
        return np.repeat(value[None] / np.float32(slices), slices, axis=0)
    volume = np.zeros((slices, *value.shape), value.dtype)
    volume[slices // 2] = value
    return volume
