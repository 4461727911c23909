"""Steps on the pixel values of one image, float32 (S, S, 3) from 0 to 255, drawn from its key."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax.typing import Array, Float

GRAY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL and torchvision
# Optical densities of haematoxylin, eosin and the residual (Ruifrok and Johnston 2001, table 1).
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
STAINS /= np.linalg.norm(STAINS, axis=1, keepdims=True)
_HAIR_POINTS = 12  # straight pieces that a hair's curve is drawn with


def gray(image: Float[Array, "S S C"]) -> Float[Array, "S S"]:
    """Return the luma of a colour image; the mean of other numbers of channels."""
    if image.shape[-1] != 3:
        return jnp.mean(image, axis=-1)
    return image @ jnp.array(GRAY, image.dtype)


def _brightness(image: Array, key: Array, amount: float) -> Array:
    return image * _factor(key, amount)


def _contrast(image: Array, key: Array, amount: float) -> Array:
    mean = jnp.mean(gray(image))
    return mean + (image - mean) * _factor(key, amount)


def _saturation(image: Array, key: Array, amount: float) -> Array:
    plain = gray(image)[..., None]
    return plain + (image - plain) * _factor(key, amount)


def _gamma(image: Array, key: Array, amount: float) -> Array:
    power = jnp.exp(jax.random.uniform(key, (), minval=-amount, maxval=amount))
    return 255.0 * (jnp.clip(image, 0, 255) / 255.0) ** power


def _noise(image: Array, key: Array, deviation: float) -> Array:
    return image + deviation * jax.random.normal(key, image.shape)


def _hue(image: Array, key: Array, turn: float) -> Array:
    # A rotation about the gray axis keeps grays as they are (Rodrigues' formula).
    angle = 2 * math.pi * jax.random.uniform(key, (), minval=-turn, maxval=turn)
    axis = jnp.full(3, 1 / math.sqrt(3))
    cross = jnp.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    rotation = jnp.cos(angle) * jnp.eye(3) + jnp.sin(angle) * cross
    rotation += (1 - jnp.cos(angle)) * jnp.outer(axis, axis)
    return image @ rotation.T


def _stain(image: Array, key: Array, amount: float) -> Array:
    scale_key, shift_key = jax.random.split(key)
    scale = jax.random.uniform(scale_key, (3,), minval=1 - amount, maxval=1 + amount)
    shift = jax.random.uniform(shift_key, (3,), minval=-amount, maxval=amount)
    density = -jnp.log10(jnp.maximum(image, 1.0) / 255.0)
    stains = density @ jnp.asarray(np.linalg.inv(STAINS), jnp.float32)
    return 255.0 * 10.0 ** -((stains * scale + shift) @ jnp.asarray(STAINS, jnp.float32))


def _bias_field(image: Array, key: Array, amount: float) -> Array:
    line = jnp.linspace(-1.0, 1.0, image.shape[0])
    powers = [(i, j) for i in range(4) for j in range(4 - i) if i + j]
    weights = jax.random.uniform(key, (len(powers),), minval=-amount, maxval=amount)
    terms = [
        weight * line[:, None] ** i * line[None, :] ** j
        for weight, (i, j) in zip(weights, powers, strict=True)
    ]
    return image * jnp.exp(jnp.stack(terms).sum(axis=0))[..., None]


def _blur(image: Array, key: Array, most: float) -> Array:
    sigma = jax.random.uniform(key, (), minval=0.0, maxval=most)
    radius = max(1, math.ceil(3 * most))
    steps = jnp.arange(-radius, radius + 1)
    kernel = jnp.exp(-0.5 * (steps / jnp.maximum(sigma, 1e-3)) ** 2)
    kernel /= kernel.sum()
    padded = jnp.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="edge")
    side = image.shape[0]
    places = range(2 * radius + 1)
    rows = jnp.stack([kernel[at] * padded[at : at + side] for at in places]).sum(axis=0)
    return jnp.stack([kernel[at] * rows[:, at : at + side] for at in places]).sum(axis=0)


def _erase(image: Array, key: Array, share: float) -> Array:
    side = image.shape[0]
    length = max(1, round(side * math.sqrt(share)))
    corner = jax.random.randint(key, (2,), 0, side - length + 1)
    line = jnp.arange(side)
    inside = (line >= corner[:, None]) & (line < corner[:, None] + length)
    return jnp.where((inside[0][:, None] & inside[1][None, :])[..., None], jnp.mean(image, (0, 1)), image)


def _hair(image: Array, key: Array, most: float) -> Array:
    """Draw dark curved lines like hairs: each a quadratic curve between two points at the border."""
    line = jnp.arange(image.shape[0]) / image.shape[0]
    place = jnp.stack(jnp.meshgrid(line, line, indexing="ij"), axis=-1)

    def draw(image: Array, key: Array) -> tuple[Array, None]:
        ends_key, bend_key, width_key, tone_key, present_key = jax.random.split(key, 5)
        angles = jax.random.uniform(ends_key, (2,), maxval=2 * math.pi)
        ends = 0.5 + 0.75 * jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=1)
        middle = ends.mean(axis=0) + jax.random.uniform(bend_key, (2,), minval=-0.25, maxval=0.25)
        t = jnp.linspace(0.0, 1.0, _HAIR_POINTS)[:, None]
        curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * middle + t**2 * ends[1]

        def nearer(nearest: Array, ends: tuple[Array, Array]) -> tuple[Array, None]:
            start, along = ends[0], ends[1] - ends[0]
            share = jnp.clip((place - start) @ along / jnp.maximum(along @ along, 1e-9), 0.0, 1.0)
            away = jnp.linalg.norm(place - start - share[..., None] * along, axis=-1)
            return jnp.minimum(nearest, away), None

        nearest = jax.lax.scan(nearer, jnp.full(image.shape[:2], jnp.inf), (curve[:-1], curve[1:]))[0]
        width = jax.random.uniform(width_key, (), minval=0.003, maxval=0.009)
        opacity = 0.85 * jnp.clip(1.5 - nearest / width, 0.0, 1.0) * jax.random.bernoulli(present_key)
        tone = jnp.array([70.0, 50.0, 40.0]) * jax.random.uniform(tone_key, (), minval=0.3, maxval=1.2)
        return image + opacity[..., None] * (tone - image), None

    return jax.lax.scan(draw, image, jax.random.split(key, int(most)))[0]


def _factor(key: Array, amount: float) -> Array:
    return jax.random.uniform(key, (), minval=1 - amount, maxval=1 + amount)


# Each takes (image, key, arguments); the result is clipped to 0..255.
COLOUR: dict[str, Callable[..., Array]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "gamma": _gamma,
    "noise": _noise,
    "hue": _hue,
    "stain": _stain,
    "bias_field": _bias_field,
    "blur": _blur,
    "erase": _erase,
    "hair": _hair,
}
