"""Geometric augmentation of one square image: exact mirrors, and affine maps sampled once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from ttl_jax.typing import Array, Float


def _flip(image: Array, key: Array) -> Array:
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def _flip_vertical(image: Array, key: Array) -> Array:
    return jnp.where(jax.random.bernoulli(key), image[::-1], image)


def _rotate90(image: Array, key: Array) -> Array:
    turns = jax.random.randint(key, (), 0, 4)
    once = jnp.where(turns % 2 == 1, jnp.rot90(image), image)
    return jnp.where(turns >= 2, once[::-1, ::-1], once)


# Each takes (image, key) and moves whole pixels.
EXACT: dict[str, Callable[[Array, Array], Array]] = {
    "flip": _flip,
    "flip_vertical": _flip_vertical,
    "rotate90": _rotate90,
}


def matrix(linear: Array, offset: Array) -> Float[Array, "3 3"]:
    """An affine map of (row, column, 1) from its linear part and its offset in pixels."""
    top = jnp.concatenate([linear, offset[:, None]], axis=1)
    return jnp.concatenate([top, jnp.array([[0.0, 0.0, 1.0]])])


def _rotate(side: int, key: Array, degrees: float) -> Float[Array, "3 3"]:
    angle = jax.random.uniform(key, (), minval=-1.0, maxval=1.0) * math.radians(degrees)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return matrix(jnp.array([[cos, -sin], [sin, cos]]), jnp.zeros(2))


def _translate(side: int, key: Array, share: float) -> Float[Array, "3 3"]:
    move = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0) * share * side
    return matrix(jnp.eye(2), move)


def _zoom(side: int, key: Array, low: float, high: float) -> Float[Array, "3 3"]:
    factor = jax.random.uniform(key, (), minval=low, maxval=high)
    return matrix(jnp.eye(2) / factor, jnp.zeros(2))


def _random_resized_crop(side: int, key: Array, low: float, high: float) -> Float[Array, "3 3"]:
    area_key, aspect_key, place_key = jax.random.split(key, 3)
    area = jax.random.uniform(area_key, (), minval=low, maxval=high)
    bound = math.log(4 / 3)
    aspect = jnp.exp(jax.random.uniform(aspect_key, (), minval=-bound, maxval=bound))
    # Large areas leave less room for the aspect: neither side may pass the image's.
    aspect = jnp.clip(aspect, area, 1 / area)
    share = jnp.stack([jnp.sqrt(area / aspect), jnp.sqrt(area * aspect)])  # height, width
    shift = jax.random.uniform(place_key, (2,), minval=-0.5, maxval=0.5)
    return matrix(jnp.diag(share), shift * (1 - share) * side)


# Each takes (side, key, arguments) and returns the map from output to input coordinates
# (row, column, 1), pixels, from the centre.
AFFINE: dict[str, Callable[..., Float[Array, "3 3"]]] = {
    "rotate": _rotate,
    "translate": _translate,
    "zoom": _zoom,
    "random_resized_crop": _random_resized_crop,
}


def sample(image: Float[Array, "S S C"], steps: Sequence[Float[Array, "3 3"]]) -> Float[Array, "S S C"]:
    """Apply affine steps, the first one first, with one bilinear sampling; edges are continued.

    Without steps the image is returned as it is.
    """
    if not steps:
        return image
    # output -> input runs backwards: the last step's map is applied first to an output coordinate
    whole = steps[0]
    for step in steps[1:]:
        whole = jnp.matmul(whole, step, precision="highest")
    side = image.shape[0]
    centre = (side - 1) / 2
    line = jnp.arange(side) - centre
    rows, columns = line[:, None], line[None, :]
    row = whole[0, 0] * rows + whole[0, 1] * columns + whole[0, 2] + centre
    column = whole[1, 0] * rows + whole[1, 1] * columns + whole[1, 2] + centre
    row, column = jnp.clip(row, 0, side - 1), jnp.clip(column, 0, side - 1)
    top, left = jnp.floor(row).astype(jnp.int32), jnp.floor(column).astype(jnp.int32)
    below, right = jnp.minimum(top + 1, side - 1), jnp.minimum(left + 1, side - 1)
    down, across = (row - top)[..., None], (column - left)[..., None]
    upper = image[top, left] * (1 - across) + image[top, right] * across
    lower = image[below, left] * (1 - across) + image[below, right] * across
    return upper * (1 - down) + lower * down
