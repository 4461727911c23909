"""The one convolution that every network calls, so that faster paths have one place to go."""

from __future__ import annotations

from collections.abc import Sequence

from jax import lax

from ttl_jax.typing import Array, Float

Padding = str | Sequence[tuple[int, int]]


def convolution(
    x: Float[Array, "n *space c"],
    kernel: Float[Array, "*window c_per_group features"],
    strides: Sequence[int],
    padding: Padding,
    groups: int = 1,
) -> Float[Array, "n *space features"]:
    """Channels-last convolution (cross-correlation, as torch's) in two or three dimensions.

    Args:
        x: input.
        kernel: HWIO or DHWIO.
        strides: one a spatial dimension.
        padding: explicit (low, high) pairs (torch), or "SAME" (TensorFlow; asymmetric when strided).
        groups: feature groups; depthwise has as many as channels.
    """
    layout = ("NHWC", "HWIO", "NHWC") if x.ndim == 4 else ("NDHWC", "DHWIO", "NDHWC")
    return lax.conv_general_dilated(
        x,
        kernel,
        tuple(strides),
        padding,
        dimension_numbers=layout,
        feature_group_count=groups,
    )
