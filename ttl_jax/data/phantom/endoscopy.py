"""Endoscopy-like view down a pink lumen: folds, vessels, specular lights, and a polyp-like bump."""

from __future__ import annotations

import numpy as np

from ttl_jax.data.phantom.brushes import band_field, grid, ramp, smooth_field
from ttl_jax.data.phantom.scene import Painted, Scene, Texture, add_lesion

_VESSEL = np.array([-0.05, -0.16, -0.12], np.float32)


def paint(scene: Scene) -> Painted:
    """Wall colour times light that falls off into the lumen, plus specular lights where it is wet."""
    p, i, size = scene.patient, scene.image, scene.size
    x, y = grid(size)
    wall = np.array([0.80, 0.42, 0.35]) + p.uniform(0, 1) * np.array([0.13, 0.18, 0.17])
    wall = (wall + p.uniform(-0.03, 0.03, 3)).astype(np.float32)
    aperture, wetness, vascular = p.uniform((0.98, 1.5, 0.3), (1.25, 2.1, 1.0))
    far, angle = i.uniform(0.3, 0.75), i.uniform(0, 2 * np.pi)
    hole = np.array([far * np.cos(angle), far * np.sin(angle)])
    u, v = x - np.float32(hole[0]), y - np.float32(hole[1])
    distance = np.sqrt(u * u + v * v) + np.float32(1e-3)
    warp = 0.16 * smooth_field(i, size, 3)
    # folds are rings around the lumen, ever closer towards it: evenly spaced in log distance
    log_distance = np.log(distance + 0.12) + warp
    rings = np.sin(log_distance * float(p.uniform(5.5, 8.5)) + float(i.uniform(0, 6.28)))
    light = ramp(distance - 0.28 + 0.1 * warp, 0.75) * (0.82 + 0.16 * rings)
    light = light + 0.05 * smooth_field(i, size, 4)

    # the bump sits on the wall away from the lumen
    centre = -hole / far * i.uniform(0.0, 0.28) + i.uniform(-0.08, 0.08, 2)
    lesion = add_lesion(
        scene, x, y, (centre[0], centre[1]), (0.40, 0.48), edge=0.08, texture=Texture(5, 14, stripes=1.2)
    )
    dome = np.clip(lesion.depth / np.float32(lesion.radius), 0, 0.16)
    weight = np.clip(lesion.weight, 0, 1)
    bump = 0.64 + 1.6 * dome + 0.11 * lesion.texture
    light = light + weight * (bump - light)
    ridge = np.abs(band_field(i, size, 4.5, 0.35))
    vessels = np.exp(-((ridge / 0.10) ** 2)) * vascular * (1 - weight)
    tint = wall + weight[..., None] * np.array([0.04, -0.07, -0.05], np.float32)
    colours = (tint + vessels[..., None] * _VESSEL) * np.maximum(light, 0.02)[..., None]

    wet = smooth_field(i, size, 12) + 0.6 * rings + 0.8 * (1 - weight) - 0.8 * weight
    lights = ramp(wet - wetness - 1.0, 0.5) * ramp(light - 0.45, 0.3)
    colours = colours + 0.9 * lights[..., None] * (1 - colours)
    frame = ramp(aperture - np.maximum(np.hypot(x, y), 0), 0.05)
    return Painted(np.clip(colours * frame[..., None], 0, 1), lesion.mask)
