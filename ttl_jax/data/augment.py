"""Augmentation on the device: pure JAX, one key per example, a text as its description.

Images are float32 0..255, before normalisation. What happens to an example depends on its key alone,
never on its place in the batch.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ttl_jax.data import warp
from ttl_jax.errors import UserError, nearest
from ttl_jax.typing import Array, Float, Int, Key

_TAG = 0x41554721  # keeps these streams apart from what else is drawn from an example's key
_GRAY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL and torchvision
_ITEM = re.compile(r"\s*([a-z_0-9]+)\s*(?:\(([^()]*)\))?\s*")


@dataclass(frozen=True)
class Augmentation:
    """One step.

    Attributes:
        name: in the tables below.
        arguments: its numbers.
    """

    name: str
    arguments: tuple[float, ...] = ()


Spec = tuple[Augmentation, ...]


def _brightness(image: Array, key: Array, amount: float) -> Array:
    return image * _factor(key, amount)


def _contrast(image: Array, key: Array, amount: float) -> Array:
    mean = jnp.mean(_gray(image))
    return mean + (image - mean) * _factor(key, amount)


def _saturation(image: Array, key: Array, amount: float) -> Array:
    gray = _gray(image)[..., None]
    return gray + (image - gray) * _factor(key, amount)


def _gamma(image: Array, key: Array, amount: float) -> Array:
    power = jnp.exp(jax.random.uniform(key, (), minval=-amount, maxval=amount))
    return 255.0 * (jnp.clip(image, 0, 255) / 255.0) ** power


def _noise(image: Array, key: Array, deviation: float) -> Array:
    return image + deviation * jax.random.normal(key, image.shape)


def _factor(key: Array, amount: float) -> Array:
    return jax.random.uniform(key, (), minval=1 - amount, maxval=1 + amount)


def _gray(image: Array) -> Array:
    if image.shape[-1] != 3:
        return jnp.mean(image, axis=-1)
    return image @ jnp.array(_GRAY, image.dtype)


# Steps on pixel values; each is clipped to 0..255 afterwards.
COLOUR: dict[str, Callable[..., Array]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "gamma": _gamma,
    "noise": _noise,
}
NAMES = (*warp.EXACT, *warp.AFFINE, *COLOUR)


def parse_augment(text: str) -> Spec:
    """Reads "none" or a list as "flip,rotate(10),brightness(0.2)"; the order is kept.

    flip, flip_vertical: mirror with probability 1/2. rotate90: by 0, 90, 180 or 270 degrees.
    rotate(d): up to d degrees either way. translate(f): up to that share of the side. zoom(lo, hi):
    factor. random_resized_crop(lo, hi): a crop of that share of the area, with an aspect of 3/4 to
    4/3, at full size (Szegedy et al. 2015). brightness(a), contrast(a), saturation(a): factor 1 - a
    to 1 + a. gamma(a): power exp(-a) to exp(a). noise(s): Gaussian, s gray levels.

    Raises:
        UserError: an unknown name (the nearest is given) or wrong arguments.
    """
    if text.strip() in ("", "none"):
        return ()
    items = [item for item in re.split(r",(?![^()]*\))", text)]
    return tuple(_parse_item(item, text) for item in items)


def _parse_item(item: str, text: str) -> Augmentation:
    match = _ITEM.fullmatch(item)
    if match is None:
        raise UserError(f"data.augment={text!r}: {item.strip()!r} is not of the form name or name(1,2)")
    name, inside = match[1], match[2]
    if name not in NAMES:
        raise UserError(f"data.augment={text!r}: there is no {name!r}{nearest(name, NAMES)}")
    try:
        numbers = tuple(float(word) for word in inside.split(",")) if inside else ()
    except ValueError:
        raise UserError(f"data.augment={text!r}: {inside!r} of {name} are not numbers") from None
    table = {**warp.EXACT, **warp.AFFINE, **COLOUR}
    wanted = list(inspect.signature(table[name]).parameters)[2:]
    if len(numbers) != len(wanted):
        form = f"{name}({', '.join(wanted)})" if wanted else name
        raise UserError(f"data.augment={text!r}: write {form}")
    _check_range(name, numbers, text)
    return Augmentation(name, numbers)


def _check_range(name: str, numbers: tuple[float, ...], text: str) -> None:
    where = f"data.augment={text!r}: {name}"
    if not all(0 <= number < float("inf") for number in numbers):
        raise UserError(f"{where} takes numbers from 0 on")
    if name in ("brightness", "contrast", "saturation", "translate") and numbers[0] > 1:
        raise UserError(f"{where} takes a share from 0 to 1")
    if name in ("zoom", "random_resized_crop") and not 0 < numbers[0] <= numbers[1]:
        raise UserError(f"{where} takes low and high, above 0 and in this order")
    if name == "random_resized_crop" and numbers[1] > 1:
        raise UserError(f"{where} takes shares of the area, 1 at most")


def augment(images: Float[Array, "B S S C"], keys: Key[Array, " B"], spec: Spec) -> Float[Array, "B S S C"]:
    """Augments a batch; an empty spec returns the very same array.

    Geometric steps that follow each other are composed and sampled once, bilinearly, with the edge
    pixels continued outwards.

    Args:
        images: float32 0..255.
        keys: typed keys, one for each example (`example_keys`).
        spec: from `parse_augment`; static under jit.
    """
    if not spec:
        return images
    return jax.vmap(lambda image, key: _augment_one(image, key, spec))(images, keys)


def _augment_one(image: Array, key: Array, spec: Spec) -> Array:
    key = jax.random.fold_in(key, _TAG)
    pending: list[Array] = []
    for number, step in enumerate(spec):
        own = jax.random.fold_in(key, number)
        if step.name in warp.AFFINE:
            pending.append(warp.AFFINE[step.name](image.shape[0], own, *step.arguments))
            continue
        image, pending = warp.sample(image, pending), []
        if step.name in warp.EXACT:
            image = warp.EXACT[step.name](image, own)
        else:
            image = jnp.clip(COLOUR[step.name](image, own, *step.arguments), 0.0, 255.0)
    return warp.sample(image, pending)


def example_keys(seed: int | Array, epoch: Int[Array, " B"], example: Int[Array, " B"]) -> Key[Array, " B"]:
    """One typed key for each example and epoch, wherever in a batch it stands.

    Args:
        seed: of the run.
        epoch: (B,).
        example: (B,) position in the training split.
    """
    root = jax.random.key(seed)

    def one(now: Array, which: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(root, now), which)

    return jax.vmap(one)(jnp.asarray(epoch), jnp.asarray(example))
