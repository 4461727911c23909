"""3D networks for volumes and videos: ResNet and DenseNet with windows in depth.

The blocks are those of the 2D families, which take their dimensions from the input; only the stems
differ. `resnet18_3d` is torchvision's r3d_18 (Tran et al. 2018). The others have every window as deep
as it is wide, as Hara et al. 2018 (3D-ResNets-PyTorch) have them, and are what the 2D network of the
same name is inflated to (weights.inflate).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ttl_jax.models import densenet, resnet
from ttl_jax.models.layers.basic import BatchNorm, conv_init, convolution, max_pool
from ttl_jax.models.unit import Plan, unit
from ttl_jax.registry import register
from ttl_jax.typing import Array, Float

SUFFIX = "_3d"
NAMES = tuple(name + SUFFIX for name in (*resnet.DEPTHS, *densenet.DEPTHS))
# Depth of the windows of r3d_18's stem and blocks; None elsewhere: as deep as wide.
WINDOW_DEPTH: dict[str, int | None] = {**dict.fromkeys(NAMES, None), "resnet18_3d": 3}


class VolumeConv(nn.Module):
    """3D convolution whose depth goes its own way; parameter `kernel` (DHWIO), no bias.

    Attributes:
        features: output channels.
        window: (depth, height, width).
        strides: (depth, height, width).
        dtype: compute type; parameters are float32. Padding is half the window on both sides.
    """

    features: int
    window: tuple[int, int, int]
    strides: tuple[int, int, int] = (1, 1, 1)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n d h w c"]) -> Float[Array, "n e i j features"]:
        kernel = self.param("kernel", conv_init, (*self.window, x.shape[-1], self.features), jnp.float32)
        padding = [(size // 2, size // 2) for size in self.window]
        return convolution(x.astype(self.dtype), kernel.astype(self.dtype), self.strides, padding)


class VolumeStem(nn.Module):
    """Convolution that halves each slice but keeps their number, norm, ReLU, 3x3x3/2 max-pool.

    Attributes:
        depth: slices that the convolution's window spans; it is 7 pixels wide and high.
        pool: whether the max-pool follows (r3d_18 has none).
        dtype: compute type.
    """

    depth: int = 7
    pool: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, moving: bool, keys: Array | None) -> Array:
        x = VolumeConv(64, (self.depth, 7, 7), (1, 2, 2), self.dtype, name="conv")(x)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, moving))
        return max_pool(x, 3, 2, 1) if self.pool else x


@register("backbone", *NAMES)
def plan(name: str, dtype: Any, slim_from: int | None, slim: int) -> Plan:
    """The units of a 3D network: those of its 2D namesake on another stem.

    Args:
        name: one of NAMES.
        dtype: compute type.
        slim_from: 1-based block from which widths are divided by `slim`, as in the 2D family.
        slim: the divisor.
    """
    flat, depth = name.removesuffix(SUFFIX), WINDOW_DEPTH[name]
    family = resnet if flat in resnet.DEPTHS else densenet
    units = family.plan(flat, dtype, slim_from, slim).units
    stem = unit("stem", "stem", VolumeStem, depth=depth or 7, pool=depth is None, dtype=dtype)
    return Plan((stem, *units[1:]), dimensions=3)
