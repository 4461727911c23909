"""Test-time augmentation: exact mirrors and turns of a batch, whose logits are averaged.

Of volumes (B, D, S, S, C) every slice is mirrored or turned in its plane.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from ttl_jax.errors import UserError, nearest
from ttl_jax.typing import Array, Float

View = Callable[[Array], Array]


def _identity(images: Array) -> Array:
    return images


def _across(images: Array) -> Array:
    return jnp.flip(images, -2)


def _down(images: Array) -> Array:
    return jnp.flip(images, -3)


def _both(images: Array) -> Array:
    return jnp.flip(images, (-3, -2))


def _transposed(view: View) -> View:
    return lambda images: jnp.swapaxes(view(images), -3, -2)


_FLIPS: tuple[View, ...] = (_identity, _across, _down, _both)

# "flip": left-right only (radiographs, photos of an upright body); "flips": both ways; "dihedral": the
# eight symmetries of the square, for tissue and skin, which have no upright.
VIEWS: dict[str, tuple[View, ...]] = {
    "none": (_identity,),
    "flip": (_identity, _across),
    "flips": _FLIPS,
    "dihedral": (*_FLIPS, *(_transposed(view) for view in _FLIPS)),
}


def views(name: str) -> tuple[View, ...]:
    """Return the views by name; the unchanged image comes first.

    Raises:
        UserError: no such set of views.
    """
    if name not in VIEWS:
        raise UserError(f"config data.tta={name!r} does not exist{nearest(name, tuple(VIEWS))}")
    return VIEWS[name]


def average(predict: Callable[[Array], Array], images: Float[Array, "B S S C"], name: str) -> Array:
    """Return the mean logits over the views: the normalised geometric mean of their probabilities."""
    return jnp.mean(jnp.stack([predict(view(images)) for view in views(name)]), axis=0)
