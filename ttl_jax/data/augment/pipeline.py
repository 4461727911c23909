"""Augmentation on the device: pure JAX, one key per example, a text as its description.

Images are float32 0..255, before normalisation. What happens to an example depends on its key alone,
never on its place in the batch.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax.data.augment import warp
from ttl_jax.data.augment.colour import COLOUR
from ttl_jax.data.augment.randaugment import TOP, rand_augment
from ttl_jax.errors import UserError, nearest
from ttl_jax.typing import Array, Float, Int, Key

_TAG = 0x41554721  # keeps these streams apart from what else is drawn from an example's key
_ITEM = re.compile(r"\s*([a-z_0-9]+)\s*(?:\(([^()]*)\))?\s*")


@dataclass(frozen=True)
class Augmentation:
    """One augmentation step.

    Attributes:
        name: Name of the step, from the tables below.
        arguments: Numbers of the step, in the order of its table entry.
    """

    name: str
    arguments: tuple[float, ...] = ()


Spec = tuple[Augmentation, ...]
_SHARES = ("brightness", "contrast", "saturation", "translate", "hue", "stain", "bias_field", "erase")


# Modality presets. A body is not mirrored where its sides differ in what they hold (heart, liver);
# tissue and skin have no upright.
PRESETS = {
    "chest_xray": "rotate(7),translate(0.04),zoom(0.9,1.1),brightness(0.1),contrast(0.15),noise(3)",
    "mri": "flip,rotate(10),zoom(0.9,1.1),bias_field(0.15),gamma(0.2),noise(4)",
    "ct": "rotate(10),translate(0.04),zoom(0.9,1.1),noise(4)",
    "ultrasound": "flip,rotate(10),zoom(0.9,1.1),gamma(0.2),noise(6)",
    "histology": "flip,rotate90,zoom(0.9,1.1),stain(0.05),brightness(0.05),blur(1)",
    "skin": "flip,rotate90,rotate(45),zoom(0.8,1.2),brightness(0.15),contrast(0.15),saturation(0.15),"
    "hue(0.02),hair(4)",
    "endoscopy": "flip,flip_vertical,rotate(20),zoom(0.85,1.15),brightness(0.15),saturation(0.1),blur(1)",
    "fundus": "flip,rotate(15),zoom(0.9,1.1),brightness(0.15),contrast(0.15),saturation(0.1)",
    "imagenet": "random_resized_crop(0.08,1),flip",
}
# Steps that may not be merged with others and clip by themselves.
WHOLE: dict[str, Callable[..., Array]] = {"randaugment": rand_augment}
NAMES = (*warp.EXACT, *warp.AFFINE, *COLOUR, *WHOLE)


def parse_augment(text: str) -> Spec:
    """Read "none", a modality preset, or a list as "flip,rotate(10),brightness(0.2)" in this order.

    flip, flip_vertical: mirror with probability 1/2. rotate90: by 0, 90, 180 or 270 degrees.
    rotate(d): up to d degrees either way. translate(f): up to that share of the side. zoom(lo, hi):
    factor. random_resized_crop(lo, hi): a crop of that share of the area, with an aspect of 3/4 to
    4/3, at full size (Szegedy et al. 2015). brightness(a), contrast(a), saturation(a): factor 1 - a
    to 1 + a. gamma(a): power exp(-a) to exp(a). hue(t): up to t of a full turn about the gray axis.
    noise(s): Gaussian, s gray levels. blur(s): Gaussian, up to s pixels. stain(a): optical densities of
    haematoxylin, eosin and residual times 1 - a to 1 + a, plus -a to a (Tellez et al. 2018).
    bias_field(a): times the exponential of a cubic with coefficients up to a (Van Leemput et al. 1999).
    hair(n): up to n dark curves. erase(f): a square of that share of the area gets the mean colour.
    randaugment(n, m): n operations at magnitude m of 30 (Cubuk et al. 2020).

    A preset's name stands for its list: chest_xray, mri, ct, ultrasound, histology, skin, endoscopy,
    fundus, imagenet.

    Raises:
        UserError: an unknown name (the nearest is given) or wrong arguments.
    """
    if text.strip() in PRESETS:
        return parse_augment(PRESETS[text.strip()])
    table = {**warp.EXACT, **warp.AFFINE, **COLOUR, **WHOLE}
    known = {name: tuple(inspect.signature(step).parameters)[2:] for name, step in table.items()}
    spec = parse_items(text, "data.augment", known, tuple(PRESETS))
    for step in spec:
        _check_range(step.name, step.arguments, text)
    return spec


def parse_items(
    text: str, field: str, known: Mapping[str, Sequence[str]], presets: tuple[str, ...] = ()
) -> Spec:
    """Read "none" or a list as "a,b(1),c(0.5,2)".

    Args:
        text: Text of the config field.
        field: Name of the field, for messages.
        known: Name of a step -> names of its numbers.
        presets: Words that may stand for the whole text; used for the hint at a misspelt name.

    Raises:
        UserError: not of that form, an unknown name, or another count of numbers.
    """
    if text.strip() in ("", "none"):
        return ()
    return tuple(
        _parse_item(item, f"{field}={text!r}", known, presets) for item in re.split(r",(?![^()]*\))", text)
    )


def _parse_item(
    item: str, where: str, known: Mapping[str, Sequence[str]], presets: tuple[str, ...]
) -> Augmentation:
    match = _ITEM.fullmatch(item)
    if match is None:
        raise UserError(f"{where}: {item.strip()!r} is not of the form name or name(1,2)")
    name, inside = match[1], match[2]
    if name not in known:
        raise UserError(f"{where}: there is no {name!r}{nearest(name, (*known, *presets))}")
    try:
        numbers = tuple(float(word) for word in inside.split(",")) if inside else ()
    except ValueError:
        raise UserError(f"{where}: {inside!r} of {name} are not numbers") from None
    wanted = known[name]
    if len(numbers) != len(wanted):
        form = f"{name}({', '.join(wanted)})" if wanted else name
        raise UserError(f"{where}: write {form}")
    return Augmentation(name, numbers)


def _check_range(name: str, numbers: tuple[float, ...], text: str) -> None:
    where = f"data.augment={text!r}: {name}"
    if not all(0 <= number < float("inf") for number in numbers):
        raise UserError(f"{where} takes numbers from 0 on")
    if name in _SHARES and numbers[0] > 1:
        raise UserError(f"{where} takes a share from 0 to 1")
    if name in ("zoom", "random_resized_crop") and not 0 < numbers[0] <= numbers[1]:
        raise UserError(f"{where} takes low and high, above 0 and in this order")
    if name == "random_resized_crop" and numbers[1] > 1:
        raise UserError(f"{where} takes shares of the area, 1 at most")
    if name in ("hair", "randaugment") and not (numbers[0] >= 1 and numbers[0] == int(numbers[0])):
        raise UserError(f"{where} takes a whole number from 1 on first")
    if name == "randaugment" and numbers[1] > TOP:
        raise UserError(f"{where} takes a magnitude from 0 to {TOP}")
    if name == "blur" and not 0 < numbers[0] <= 10:
        raise UserError(f"{where} takes pixels, above 0 and up to 10")


def augment(images: Float[Array, "B S S C"], keys: Key[Array, " B"], spec: Spec) -> Float[Array, "B S S C"]:
    """Augment a batch; an empty spec returns the very same array.

    Geometric steps that follow each other are composed and sampled once, bilinearly, with the edge
    pixels continued outwards.

    Args:
        images: Float32 images, 0..255. Volumes are (B, D, S, S, C); all slices of one are changed alike.
        keys: One typed key per example (`example_keys`).
        spec: Output of `parse_augment`; static under jit.
    """
    if not spec:
        return images
    return jax.vmap(lambda image, key: _augment_one(image, key, spec))(images, keys)


def _augment_one(image: Array, key: Array, spec: Spec) -> Array:
    if image.ndim == 4:  # a volume: every slice in the same way, so that the body stays whole
        return jax.vmap(lambda one: _augment_one(one, key, spec))(image)
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
        elif step.name in WHOLE:
            image = WHOLE[step.name](image, own, *step.arguments)
        else:
            image = jnp.clip(COLOUR[step.name](image, own, *step.arguments), 0.0, 255.0)
    return warp.sample(image, pending)


def example_keys(
    seed: int | Int[Array, " B"], epoch: Int[Array, " B"], example: Int[Array, " B"]
) -> Key[Array, " B"]:
    """Return one typed key per example and epoch, whatever its place in a batch.

    Args:
        seed: The run's seed. As an array (the same value for all) it is no constant of a compiled step.
        epoch: Epoch of each example, (B,).
        example: Position of each example in the training split, (B,).
    """

    def one(root: Array, now: Array, which: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(root), now), which)

    whole = jnp.asarray(np.int64(seed) if isinstance(seed, int) else seed)
    return jax.vmap(one)(jnp.broadcast_to(whole, epoch.shape), jnp.asarray(epoch), jnp.asarray(example))
