"""Grad-CAM: where in an image a network saw the evidence for a class (Selvaraju et al. 2017, ICCV)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ttl_jax.models import Network
from ttl_jax.typing import Array, Float, Int, Variables

MIN_SIDE = 4  # a coarser map than 4 x 4 places points at nothing
GradCam = Callable[[Variables, Array, Array], Array]


def last_map(network: Network, variables: Variables, image_shape: tuple[int, ...]) -> str | None:
    """The topmost unit whose output is a map of 4 x 4 places or more; None where there is none.

    On small images that is not the last one (ResNet's is 2 x 2 at 64 pixels). Volumes have none.

    Args:
        network, variables: The network, whole or cut, and its parameters and statistics.
        image_shape: Shape of one image, (H, W, channels).
    """
    names = tuple(spec.name for spec in network.units)

    def outputs(given: Variables, images: Array) -> Any:
        return network.apply(given, images, capture=names)

    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    _, features = jax.eval_shape(outputs, dict(variables), image)
    maps = [name for name in names if features[name].ndim == 4 and min(features[name].shape[1:3]) >= MIN_SIDE]
    return maps[-1] if maps and network.dimensions == 2 else None


def make_grad_cam(network: Network, normalise: Callable[[Array], Array], unit: str) -> GradCam:
    """Build the jitted function (variables, images uint8 (N, H, W, 3), classes (N,)) -> maps (N, h, w).

    A map is ReLU(sum_k w_k A_k): A the unit's output, w_k the mean over places of the derivative of the
    class's logit by A_k (eq. 1 and 2 of the paper). It has the unit's size and no scale of its own.
    """

    @jax.jit
    def maps(variables: Variables, images: Array, classes: Int[Array, "n"]) -> Float[Array, "n height width"]:
        _, captured = network.apply(variables, normalise(images), capture=(unit,))
        features = captured[unit].astype(jnp.float32)

        def evidence(features: Array) -> Array:
            logits = network.apply(variables, features, after=unit)
            return jnp.take_along_axis(logits, classes[:, None], axis=1).sum()  # type: ignore[arg-type]

        weights = jax.grad(evidence)(features).mean(axis=(1, 2))
        return jax.nn.relu(jnp.einsum("nhwc,nc->nhw", features, weights))

    return maps
