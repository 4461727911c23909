"""RandAugment: a few operations drawn uniformly, all at one magnitude (Cubuk et al. 2020).

Operations and ranges are those of torchvision's RandAugment, with 31 magnitudes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ttl_jax.data.augment import warp
from ttl_jax.data.augment.colour import gray
from ttl_jax.typing import Array, Float

TOP = 30  # the largest magnitude


def autocontrast(image: Array, amount: Array) -> Array:
    """Stretch every channel to 0..255, as PIL's ImageOps.autocontrast."""
    low, high = image.min((0, 1)), image.max((0, 1))
    scale = 255.0 / jnp.where(high > low, high - low, 1.0)
    return jnp.where(high > low, (image - low) * scale, image)


def equalize(image: Array, amount: Array) -> Array:
    """Flatten every channel's histogram, as PIL's ImageOps.equalize."""

    def one(channel: Array) -> Array:
        level = jnp.clip(jnp.round(channel), 0, 255).astype(jnp.int32)
        count = jnp.zeros(256, jnp.int32).at[level.ravel()].add(1)
        last = count[level.max()]
        step = (level.size - last) // 255
        table = (step // 2 + jnp.cumsum(count) - count) // jnp.maximum(step, 1)
        return jnp.where(step > 0, jnp.clip(table, 0, 255)[level].astype(channel.dtype), channel)

    return jax.vmap(one, in_axes=-1, out_axes=-1)(image)


def solarize(image: Array, amount: Array) -> Array:
    """Invert values from a threshold on; amount 1 inverts all."""
    return jnp.where(image >= 255.0 * (1 - jnp.abs(amount)), 255.0 - image, image)


def posterize(image: Array, amount: Array) -> Array:
    """Keep 8 to 4 bits, as PIL's ImageOps.posterize."""
    lost = 2.0 ** jnp.round(4 * jnp.abs(amount))
    return jnp.floor(image / lost) * lost


def brightness(image: Array, amount: Array) -> Array:
    """Scale by 0.1 to 1.9, as PIL's ImageEnhance; so do the next three."""
    return image * (1 + 0.9 * amount)


def contrast(image: Array, amount: Array) -> Array:
    """Scale the difference from the mean luma."""
    mean = jnp.floor(jnp.mean(gray(image)) + 0.5)
    return mean + (image - mean) * (1 + 0.9 * amount)


def colour(image: Array, amount: Array) -> Array:
    """Scale the difference from each pixel's luma."""
    plain = gray(image)[..., None]
    return plain + (image - plain) * (1 + 0.9 * amount)


def sharpness(image: Array, amount: Array) -> Array:
    """Scale the difference from the image under PIL's 3 x 3 kernel (5 amid 1s); the border stays."""
    side = image.shape[0]
    around = sum(
        image[i : side - 2 + i, j : side - 2 + j] * (5 if (i, j) == (1, 1) else 1)
        for i in range(3)
        for j in range(3)
    )
    smooth = image.at[1:-1, 1:-1].set(around / 13.0)
    return smooth + (image - smooth) * (1 + 0.9 * amount)


TONES: tuple[Callable[[Array, Array], Array], ...] = (
    lambda image, amount: image, autocontrast, equalize, solarize, posterize, brightness, contrast,
    colour, sharpness,
)  # fmt: skip


def moves(side: int, amount: Array) -> Float[Array, "5 3 3"]:
    """Shear across and down (0.3), shift across and down (150 / 331 of the side), rotation (30 degrees)."""
    shear, shift, angle = 0.3 * amount, 150 / 331 * side * amount, math.radians(30) * amount
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    zero = jnp.zeros(2)
    return jnp.stack(
        [
            warp.matrix(jnp.array([[1.0, 0.0], [shear, 1.0]]), zero),
            warp.matrix(jnp.array([[1.0, shear], [0.0, 1.0]]), zero),
            warp.matrix(jnp.eye(2), jnp.array([0.0, shift])),
            warp.matrix(jnp.eye(2), jnp.array([shift, 0.0])),
            warp.matrix(jnp.array([[cos, -sin], [sin, cos]]), zero),
        ]
    )


def rand_augment(image: Float[Array, "S S 3"], key: Array, number: float, magnitude: float) -> Array:
    """Apply `number` operations of the fourteen, each at `magnitude`, with a random sign.

    Args:
        image: One image, 0..255.
        key: Key of the example.
        number: Number of operations to apply, one after the other.
        magnitude: Strength of every operation, 0 to 30.
    """
    for layer in jax.random.split(key, int(number)):
        kind_key, sign_key = jax.random.split(layer)
        kind = jax.random.randint(kind_key, (), 0, len(TONES) + 5)
        amount = magnitude / TOP * jnp.where(jax.random.bernoulli(sign_key), 1.0, -1.0)
        # Under vmap every branch is computed anyway: the tones are cheap, and the moves are one map.
        toned = jax.lax.switch(jnp.minimum(kind, len(TONES)), (*TONES, TONES[0]), image, amount)
        which = jnp.maximum(kind - len(TONES), 0)
        still = jnp.eye(3)
        move = jnp.where(kind >= len(TONES), moves(image.shape[0], amount)[which], still)
        image = jnp.clip(warp.sample(toned, [move]), 0.0, 255.0)
    return image
