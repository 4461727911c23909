"""Dermoscopy-like skin lesion: brown, blotched, with a pigment network, under hair."""

from __future__ import annotations

import numpy as np

from ttl_jax.data.phantom.brushes import grid, ramp, smooth_field
from ttl_jax.data.phantom.scene import Painted, Scene, Texture, add_lesion, mixed
from ttl_jax.typing import Float

_HAIR_COLOUR = np.array([0.14, 0.12, 0.11], np.float32)


def paint(scene: Scene) -> Painted:
    """Skin, lesion, hair, then the dark corners of the dermatoscope."""
    p, i, size = scene.patient, scene.image, scene.size
    x, y = grid(size)
    # from pale to dark along one line each, and a little off it
    skin = np.array([0.78, 0.56, 0.48]) + p.uniform(0, 1) * np.array([0.15, 0.18, 0.18])
    skin = skin + p.uniform(-0.04, 0.04, 3)
    brown = np.array([0.34, 0.20, 0.14]) + p.uniform(0, 1) * np.array([0.20, 0.15, 0.12])
    brown = brown + p.uniform(-0.02, 0.02, 3)
    corners, hairiness, blotched = p.uniform((0.0, 0.0, 0.05), (0.7, 1.0, 0.13))
    tone = smooth_field(i, size, 3)[..., None] * np.float32(0.025)
    redness = smooth_field(i, size, 4)[..., None] * np.array([0.01, -0.02, -0.02])
    colours = (skin + tone + redness).astype(np.float32)

    centre = i.uniform(-0.10, 0.10, 2)
    lesion = add_lesion(
        scene, x, y, (centre[0], centre[1]), (0.42, 0.52), edge=0.10, texture=Texture(5, 14, stripes=0.8)
    )
    # colour irregularity: blotches of lighter and darker brown, a blue-grey veil in some
    blotches = smooth_field(i, size, 5)[..., None] * np.float32(blotched)
    veil = ramp(smooth_field(i, size, 3) - 1.0, 1.0)[..., None] * np.float32(p.uniform(0, 0.7))
    pigment = brown + blotches * np.array([1.0, 0.9, 0.8])
    pigment = pigment + veil * (np.array([0.42, 0.42, 0.50]) - pigment)
    network = lesion.texture[..., None] * np.array([0.085, 0.07, 0.055])
    colours = mixed(colours, (pigment + network).astype(np.float32), lesion.weight * 0.9)

    for _ in range(int(i.binomial(9, hairiness * 0.6))):
        colours = mixed(colours, _HAIR_COLOUR, _hair(i, x, y))
    vignette = 1 - corners * ramp(np.hypot(x, y) - 1.12, 0.35)
    return Painted(np.clip(colours * vignette[..., None], 0, 1), lesion.mask)


def _hair(
    rng: np.random.Generator, x: Float[np.ndarray, "s s"], y: Float[np.ndarray, "s s"]
) -> Float[np.ndarray, "s s"]:
    """Opacity of one hair: a piece of a parabola."""
    angle, offset, bend = rng.uniform((0, -0.9, -0.5), (np.pi, 0.9, 0.5))
    start, length, thickness = rng.uniform((-1.2, 0.7, 0.014), (0.2, 2.0, 0.028))
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = cos * x + sin * y, cos * y - sin * x
    away = np.abs(across - np.float32(offset) - np.float32(bend) * along**2)
    ends = ramp(along - np.float32(start), 0.1) * ramp(np.float32(start + length) - along, 0.1)
    return 0.8 * ends * ramp(thickness - away, 0.035)
