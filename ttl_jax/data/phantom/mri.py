"""Brain-like MR slice: scalp, skull, liquor, folded cortex, white matter, ventricles, and a mass."""

from __future__ import annotations

import numpy as np

from ttl_jax.data.phantom.brushes import band_field, ellipse, ramp, smooth_field, viewed
from ttl_jax.data.phantom.scene import Painted, Scene, Texture, add_lesion, gray


def paint(scene: Scene) -> Painted:
    """Tissues laid over one another by their depth below the scalp; a smooth coil bias on top."""
    p, i, size = scene.patient, scene.image, scene.size
    x, y = viewed(i, size, 0.05, 0.12, 0.05)
    x = x + 0.025 * smooth_field(p, size, 3)
    y = y + 0.025 * smooth_field(p, size, 3)
    rx, ry, skull, ventricle = p.uniform((0.78, 0.90, 0.06, 0.04), (0.88, 0.97, 0.09, 0.10))
    white, grey, liquor, scalp = p.uniform((0.46, 0.32, 0.04, 0.6), (0.58, 0.42, 0.16, 0.9))
    bias, fold = p.uniform((0.02, 5.5), (0.12, 8))

    depth = ellipse(x, y, (0, 0), (rx, ry))
    folds = band_field(i, size, fold, 0.3)
    brain_depth = depth - 0.05 - skull
    rim = brain_depth - 0.10 - 0.045 * folds
    brain = grey + (white - grey) * ramp(rim, 0.06)
    sulci = np.exp(-((folds - 0.9) ** 2) / 0.09) * ramp(0.24 - brain_depth, 0.2)
    brain = brain + (liquor - brain) * 0.8 * sulci
    falx = np.exp(-((x / 0.02) ** 2)) * ramp(np.abs(y) - 0.3, 0.2)
    brain = brain + (liquor - brain) * 0.7 * falx
    horns = np.zeros_like(x)
    for sign in (-1, 1):
        nucleus = ramp(ellipse(x, y, (sign * 0.24, 0.04), (0.08, 0.17), -0.3 * sign), 0.05)
        brain = brain + (grey - brain) * 0.8 * nucleus
        front = ellipse(x, y, (sign * 0.10, -0.14), (ventricle, 0.19), -0.25 * sign)
        back = ellipse(x, y, (sign * 0.15, 0.20), (ventricle, 0.20), 0.35 * sign)
        horns = np.maximum(horns, ramp(np.maximum(front, back), 0.04))
    brain = brain + (liquor - brain) * horns

    centre = p.uniform((-0.2, -0.1), (0.2, 0.1)) + i.uniform(-0.04, 0.04, 2)
    lesion = add_lesion(
        scene, x, y, (centre[0], centre[1]), (0.29, 0.35), edge=0.07, texture=Texture(4.5, 14), axis=np.pi / 2
    )
    mass = p.uniform(0.74, 0.90) + 0.10 * lesion.texture
    brain = brain + np.clip(lesion.weight, 0, 1) * (mass - brain)

    image = scalp * ramp(depth, 0.03) * ramp(0.06 - depth, 0.03)
    image = image + 0.05 * ramp(depth - 0.05, 0.03) + (liquor - 0.05) * ramp(brain_depth, 0.04)
    image = image + (brain - liquor) * ramp(brain_depth - 0.03, 0.04)
    image = image * (1 + bias * smooth_field(p, size, 2))
    return Painted(gray(np.clip(image, 0, 1)), lesion.mask & (brain_depth > 0.03))
