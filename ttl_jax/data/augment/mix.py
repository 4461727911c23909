"""MixUp and CutMix: two images of a batch, and their labels, in one."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ttl_jax.data.augment.pipeline import Augmentation, Spec, parse_items
from ttl_jax.errors import UserError
from ttl_jax.typing import Array, Float, Key

NAMES = ("mixup", "cutmix")
_TAG = 0x4D495832  # keeps this stream apart from the augmentation's


def parse_mix(text: str) -> Spec:
    """Read "none", "mixup(0.2)", "cutmix(1)" or both with a comma, of which each image gets one.

    The number is alpha of the Beta(alpha, alpha) that the share is drawn from.

    Raises:
        UserError: an unknown name or a number that is not above 0.
    """
    spec = parse_items(text, "data.mix", {name: ("alpha",) for name in NAMES})
    for step in spec:
        if not 0 < step.arguments[0] < float("inf"):
            raise UserError(f"data.mix={text!r}: {step.name} takes an alpha above 0")
    return spec


def mix(
    images: Float[Array, "B S S C"], labels: Array, keys: Key[Array, " B"], spec: Spec, classes: int
) -> tuple[Float[Array, "B S S C"], Float[Array, "B classes"]]:
    """Mix each image with the next one of the batch (the last with the first).

    MixUp (Zhang et al. 2018): share * image + (1 - share) * partner. CutMix (Yun et al. 2019): a box
    of 1 - share of the area comes from the partner, and the share is what is left of the image. The
    share and the box are drawn from the example's own key; an empty spec changes nothing.

    Args:
        images: Float images of the batch, (B, S, S, C).
        labels: Int class numbers (B,), or float (B, classes) with NaN = unknown. A mixture with an unknown
            label is unknown.
        keys: One typed key per example.
        spec: Output of `parse_mix`; static under jit.
        classes: Number of classes.

    Returns:
        images, and labels as (B, classes) shares (int labels unchanged with an empty spec).
    """
    if not spec:
        return images, labels
    target = jax.nn.one_hot(labels, classes) if labels.ndim == 1 else labels
    partner_image, partner_target = jnp.roll(images, -1, axis=0), jnp.roll(target, -1, axis=0)

    def one(image: Array, other: Array, key: Array) -> tuple[Array, Array]:
        kind_key, own_key = jax.random.split(jax.random.fold_in(key, _TAG))
        results = [_ONE[step.name](image, other, own_key, step) for step in spec]
        kind = jax.random.randint(kind_key, (), 0, len(spec))
        mixed = jnp.stack([result[0] for result in results])[kind]
        return mixed, jnp.stack([result[1] for result in results])[kind]

    mixed, share = jax.vmap(one)(images, partner_image, keys)
    return mixed, share[:, None] * target + (1 - share[:, None]) * partner_target


def _mixup(image: Array, other: Array, key: Array, step: Augmentation) -> tuple[Array, Array]:
    share = jax.random.beta(key, step.arguments[0], step.arguments[0])
    return share * image + (1 - share) * other, share


def _cutmix(image: Array, other: Array, key: Array, step: Augmentation) -> tuple[Array, Array]:
    share_key, place_key = jax.random.split(key)
    share = jax.random.beta(share_key, step.arguments[0], step.arguments[0])
    side = image.shape[-2]  # of a volume's slices too, which all get the same square
    length = side * jnp.sqrt(1 - share)
    centre = jax.random.uniform(place_key, (2,)) * side
    low = jnp.clip(jnp.floor(centre - length / 2), 0, side)
    high = jnp.clip(jnp.floor(centre + length / 2), 0, side)
    line = jnp.arange(side)
    inside = (line >= low[:, None]) & (line < high[:, None])
    box = inside[0][:, None] & inside[1][None, :]
    return jnp.where(box[..., None], other, image), 1 - jnp.mean(box)


_ONE = {"mixup": _mixup, "cutmix": _cutmix}
