"""Group normalisation and convolutions with standardised weights: networks without batch statistics."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from ttl_jax.models.layers.basic import conv_init, convolution
from ttl_jax.typing import Array, Float


class GroupNorm(nn.Module):
    """Normalisation over space and the channels of a group (Wu and He 2018), as torch's GroupNorm.

    Parameters `scale` and `bias`; moments in float32 whatever the compute type.

    Attributes:
        groups: number of groups, each of channels that lie side by side.
        epsilon: added to the (biased) variance.
        dtype: compute type.
    """

    groups: int
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c"]) -> Float[Array, "n *space c"]:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        grouped = x.astype(jnp.float32).reshape(x.shape[0], -1, self.groups, channels // self.groups)
        mean = grouped.mean((1, 3), keepdims=True)
        centred = grouped - mean
        var = jnp.square(centred).mean((1, 3), keepdims=True)
        normal = (centred * lax.rsqrt(var + self.epsilon)).reshape(x.shape)
        return (normal * scale + bias).astype(self.dtype)


class StandardisedConv(nn.Module):
    """2D convolution whose kernel has mean 0 and variance 1 in each output channel (Qiao et al. 2019).

    Attributes:
        features: output channels.
        size: window edge.
        stride: stride, the same in both directions.
        padding: zeros on each side, in pixels.
        epsilon: added to the (biased) variance of a kernel.
        dtype: compute type; the kernel is standardised in float32.
    """

    features: int
    size: int
    stride: int = 1
    padding: int = 0
    epsilon: float = 1e-8
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n i j features"]:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", conv_init, shape, jnp.float32)
        centred = kernel - kernel.mean((0, 1, 2))
        kernel = centred * lax.rsqrt(jnp.square(centred).mean((0, 1, 2)) + self.epsilon)
        padding = [(self.padding, self.padding)] * 2
        return convolution(x.astype(self.dtype), kernel.astype(self.dtype), (self.stride,) * 2, padding)
