"""Layers with torch's conventions: explicit padding, BatchNorm statistics, per-example dropout.

Convolutions, pools and moments are those of `models.cpu`, which see to it that they are fast there.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ttl_jax.models.cpu.convolution import Padding, convolution
from ttl_jax.models.cpu.max_pool import max_pool
from ttl_jax.models.cpu.moments import joined as concatenate
from ttl_jax.models.cpu.moments import moments
from ttl_jax.models.cpu.recompute import normalised_convolution
from ttl_jax.typing import Array, Float

__all__ = [
    "Activation", "Affine", "BatchNorm", "Conv", "Dense", "Dropout", "adaptive_average_pool", "average_pool",
    "concatenate", "conv_init", "convolution", "dense_init", "global_average_pool", "max_pool",
    "norm_relu_conv",
]  # fmt: skip

Affine = tuple[Float[Array, " c"], Float[Array, " c"]]  # factor and offset of a normalisation, float32

# torchvision's initialisations: kaiming normal over fan-out for convolutions, torch's own for Linear.
# Flax asks each for its shape in every trace of a network: traced once a shape.
_traced_once = partial(jax.jit, static_argnums=(1, 2))
conv_init = _traced_once(nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal"))
dense_init = _traced_once(nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"))


class Conv(nn.Module):
    """Convolution with parameters `kernel` (HWIO) and, where asked for, `bias`.

    Attributes:
        features: output channels.
        size: edge of the kernel, the same in every dimension.
        stride: stride, the same in every dimension.
        padding: an int (torch: both sides), or "SAME" (TensorFlow).
        groups: feature groups; 0 = depthwise.
        bias: whether the convolution has a bias.
        dtype: compute type; parameters are float32.
    """

    features: int
    size: int
    stride: int = 1
    padding: int | str = 0
    groups: int = 1
    bias: bool = False
    dtype: Any = jnp.float32

    def __call__(self, x: Float[Array, "n *space c"]) -> Float[Array, "n *space features"]:
        return self.convolve(x)

    @nn.compact
    def convolve(
        self, x: Float[Array, "n *space c"], affine: Affine | None = None
    ) -> Float[Array, "n *space features"]:
        """Convolves.

        Args:
            x: input.
            affine: factor and offset of `BatchNorm.affine`; where given, ReLU(x * factor + offset) is
                convolved, and made again for the gradient instead of kept.
        """
        groups = self.groups or x.shape[-1]
        spatial = x.ndim - 2
        shape = (*(self.size,) * spatial, x.shape[-1] // groups, self.features)
        kernel = self.param("kernel", conv_init, shape, jnp.float32)
        padding: Padding = (
            ((self.padding, self.padding),) * spatial if isinstance(self.padding, int) else self.padding
        )
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        strides = (self.stride,) * spatial
        if affine is None:
            y = convolution(x, kernel, strides, padding, groups)
        else:
            factor, offset = (value.astype(self.dtype) for value in affine)
            y = normalised_convolution(x, factor, offset, kernel, strides, padding, groups)
        if self.bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return y


class Dense(nn.Module):
    """Linear layer with parameters `kernel` (in, out) and `bias`."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n c"]) -> Float[Array, "n features"]:
        kernel = self.param("kernel", dense_init, (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return jnp.dot(x.astype(self.dtype), kernel.astype(self.dtype)) + bias.astype(self.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, as torch's BatchNorm2d.

    Parameters `scale`, `bias`; statistics `mean`, `var` (float32 whatever the compute type). The
    running variance takes the unbiased batch variance, the normalisation the biased one.

    Where it is moving it leaves the batch's `Moments` in the collection "moments", where that is mutable:
    what becomes of them in training is the run's setting (training/batch_statistics.py). Where
    "batch_stats" itself is mutable it moves its statistics by its own momentum.

    Attributes:
        momentum: share of the old running value that is kept (torch's momentum is 1 minus this).
        epsilon: added to the variance.
        dtype: compute type.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    def __call__(self, x: Float[Array, "n *space c"], moving: bool) -> Float[Array, "n *space c"]:
        factor, offset = self.affine(x, moving)
        return x.astype(self.dtype) * factor.astype(self.dtype) + offset.astype(self.dtype)

    @nn.compact
    def affine(self, x: Float[Array, "n *space c"], moving: bool) -> Affine:
        """The factor and the offset of each channel that normalise x; where it is `moving`, of its own
        moments, which also move the statistics."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        if moving and not self.is_initializing():
            measured = moments(x, lax.stop_gradient(mean.value))
            batch_mean, batch_var, bessel = measured
            if self.is_mutable_collection("moments"):
                for name, value in measured._asdict().items():
                    self.put_variable("moments", name, value)
            if self.is_mutable_collection("batch_stats"):
                unbiased = batch_var * bessel
                mean.value = self.momentum * mean.value + (1 - self.momentum) * batch_mean
                var.value = self.momentum * var.value + (1 - self.momentum) * unbiased
        else:
            batch_mean, batch_var = mean.value, var.value
        factor = scale * lax.rsqrt(batch_var + self.epsilon)
        return factor, bias - batch_mean * factor


def norm_relu_conv(norm: BatchNorm, conv: Conv, x: Float[Array, "n *space c"], moving: bool) -> Array:
    """BatchNorm, ReLU, convolution: DenseNet's composite function (Huang et al. 2017, section 3).

    For the gradient x alone is kept on a CPU, not what the norm makes of it.
    """
    if moving:
        return conv.convolve(x, norm.affine(x, moving))
    return conv(nn.relu(norm(x, moving)))


class Dropout(nn.Module):
    """Dropout whose mask belongs to the example, never to its place in the batch.

    Attributes:
        rate: share of values set to zero; the rest is scaled by 1 / (1 - rate).
        whole: drop whole examples (stochastic depth, torchvision's "row" mode).
    """

    rate: float
    whole: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "n *rest"], keys: Array | None) -> Float[Array, "n *rest"]:
        if keys is None or self.rate == 0:
            return x
        salt = zlib.crc32("/".join(self.path).encode())
        shape = (1,) * (x.ndim - 1) if self.whole else x.shape[1:]

        def keep(key: Array) -> Array:
            return jax.random.bernoulli(jax.random.fold_in(key, salt), 1 - self.rate, shape)

        return jnp.where(jax.vmap(keep)(keys), x / (1 - self.rate), 0).astype(x.dtype)


class Activation(nn.Module):
    """A function as a unit's part: no parameters."""

    function: Callable[[Array], Array]

    def __call__(self, x: Array, moving: bool, keys: Array | None) -> Array:
        return self.function(x)


def average_pool(x: Array, size: int, stride: int) -> Array:
    """Average pooling without padding."""
    spatial = x.ndim - 2
    return nn.avg_pool(x, (size,) * spatial, (stride,) * spatial, "VALID")


def global_average_pool(x: Float[Array, "n *space c"]) -> Float[Array, "n c"]:
    """Mean over space."""
    if x.dtype != jnp.float32:
        # XLA:CPU of JAX 0.12 fuses the mean with the convolutions before it, and with fewer bits that
        # fusion (YNNPACK's) reads memory that nothing has written: NaN.
        x = lax.optimization_barrier(x)
    return x.mean(axis=tuple(range(1, x.ndim - 1)))


def adaptive_average_pool(x: Float[Array, "n h w c"], size: int) -> Float[Array, "n s s c"]:
    """torch's AdaptiveAvgPool2d: window i covers floor(i H / s) .. ceil((i + 1) H / s)."""

    def windows(length: int) -> np.ndarray:
        weights = np.zeros((size, length), np.float32)
        for place in range(size):
            low, high = place * length // size, -(-(place + 1) * length // size)
            weights[place, low:high] = 1 / (high - low)
        return weights

    _, height, width, _ = x.shape
    if (height, width) == (size, size):
        return x
    rows, columns = windows(height).astype(x.dtype), windows(width).astype(x.dtype)
    return jnp.einsum("ph,qw,nhwc->npqc", rows, columns, x)
