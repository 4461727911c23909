"""StochNorm (Kou et al. 2020): each channel takes the batch's or the running statistics at random."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ttl_jax.models.layers.basic import BatchNorm
from ttl_jax.typing import Array


def stochastic_norm(share: float, key: Array) -> AbstractContextManager[None]:
    """Inside this context every BatchNorm that would move is stochastic.

    A channel is normalised by the batch's statistics with probability `share`, else by the running
    ones as they stood before the batch; the choice is drawn anew for every layer and step, and the
    running statistics move as ever. In inference nothing changes.

    Args:
        share: probability of the batch's statistics, p of the paper (Kou et al. 2020).
        key: PRNG key of the step; the layer's path is folded in.
    """

    def normalise(
        following: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any
    ) -> Any:
        module = context.module
        if not isinstance(module, BatchNorm) or context.method_name != "affine":
            return following(*args, **kwargs)
        values = {**dict(zip(("x", "moving"), args, strict=False)), **kwargs}
        if not values["moving"]:
            return following(*args, **kwargs)
        # A module's method runs once, so the other branch is written out; before the batch moves them.
        mean: Array = module.get_variable("batch_stats", "mean")
        var: Array = module.get_variable("batch_stats", "var")
        factor, offset = following(**values)
        scale: Array = module.get_variable("params", "scale")
        bias: Array = module.get_variable("params", "bias")
        running = scale * jax.lax.rsqrt(var + module.epsilon)
        salt = zlib.crc32("/".join(module.path).encode())
        chosen = jax.random.bernoulli(jax.random.fold_in(key, salt), share, factor.shape)
        return jnp.where(chosen, factor, running), jnp.where(chosen, offset, bias - mean * running)

    return nn.intercept_methods(normalise)
