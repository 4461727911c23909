"""Chest-like radiograph: soft tissue, lung fields, ribs, spine, clavicles, heart, and an opacity."""

from __future__ import annotations

import numpy as np

from ttl_jax.data.phantom.brushes import band_field, ellipse, ramp, smooth_field, viewed
from ttl_jax.data.phantom.scene import Painted, Scene, Texture, add_lesion, gray
from ttl_jax.typing import Float


def paint(scene: Scene) -> Painted:
    """Attenuation adds up along the beam: every organ is a term of one sum."""
    p, i, size = scene.patient, scene.image, scene.size
    x, y = viewed(i, size, 0.06, 0.05, 0.05)
    x = x + 0.03 * smooth_field(p, size, 3)
    y = y + 0.03 * smooth_field(p, size, 3)
    width, lung_x, lung_rx, lung_ry = p.uniform((0.92, 0.42, 0.33, 0.66), (1.02, 0.46, 0.38, 0.78))
    exposure, bone, heart_size = p.uniform((0.85, 0.05, 0.24), (1.15, 0.10, 0.36))
    diaphragm, scatter = p.uniform((0.42, 0.0), (0.66, 0.06))

    side = np.abs(x)
    torso = ramp(width + 0.1 * y - side, 0.1) * ramp(y + 1.25 - 0.75 * np.maximum(side, 0.25), 0.2)
    lungs = np.zeros_like(x)
    for sign, lower in ((-1, p.uniform(-0.04, 0.08)), (1, p.uniform(-0.04, 0.08))):
        cx = sign * lung_x
        dome = diaphragm + lower + 0.9 * (x - cx) ** 2 - y
        field = np.minimum(ellipse(x, y, (cx, -0.02), (lung_rx, lung_ry), -0.12 * sign), dome)
        lungs = np.maximum(lungs, ramp(field, 0.07))
    ribs = _ribs(x, y, side, float(p.uniform(4.3, 5.6)), float(p.uniform(0, 1)))
    spine = np.exp(-((x / 0.11) ** 2)) * (1 + 0.12 * np.sin(y * p.uniform(22, 27)))
    heart = ramp(ellipse(x, y, (0.13, 0.3), (heart_size, 0.30), 0.45), 0.12)
    clavicles = np.exp(-(((y + 0.72 + 0.18 * side) / 0.035) ** 2)) * ramp(side - 0.12, 0.1)
    hilum = np.exp(-((side - 0.2) ** 2 + (y - 0.02) ** 2) / 0.06)
    vessels = np.maximum(band_field(i, size, 9, 0.4), 0) * (0.3 + 1.2 * hilum)

    centre_side = 1 if p.uniform() < 0.5 else -1
    centre = np.array([centre_side * lung_x, p.uniform(-0.15, 0.05)]) + i.uniform(-0.05, 0.05, 2)
    tilt = np.pi / 2 + 0.12 * centre_side  # as the lung is
    lesion = add_lesion(
        scene, x, y, (centre[0], centre[1]), (0.30, 0.36), edge=0.08, texture=Texture(4.5, 12), axis=tilt
    )
    room = torso * (0.45 + 0.55 * lungs)  # it takes the place of air; less elsewhere
    attenuation = (
        0.52 * torso
        - 0.40 * lungs
        + bone * ribs * torso
        + 0.20 * spine * torso
        + 0.26 * heart * torso
        + 0.5 * bone * clavicles * torso
        + 0.05 * lungs * (vessels + 1.5 * hilum)
        + scatter * smooth_field(i, size, 2)
        + room * lesion.weight * (0.34 + 0.10 * lesion.texture)
    )
    # the film saturates: what lies over the spine adds less than what lies over the lung
    film = 1.25 * (1 - np.exp(-1.5 * exposure * np.maximum(attenuation, 0)))
    return Painted(gray(np.minimum(0.04 + film, 1)), lesion.mask & (torso > 0.5))


def _ribs(
    x: Float[np.ndarray, "s s"],
    y: Float[np.ndarray, "s s"],
    side: Float[np.ndarray, "s s"],
    frequency: float,
    phase: float,
) -> Float[np.ndarray, "s s"]:
    """Posterior ribs that slope down sideways, with fainter anterior ones crossing them."""
    back = np.sin(2 * np.pi * (frequency * (y - 0.9 * side * (0.75 - 0.5 * side)) / 2 + phase))
    front = np.sin(2 * np.pi * (frequency * (y + 0.5 * side) / 2 + phase + 0.3))
    ribs = ramp(back - 0.25, 0.8) + 0.35 * ramp(front - 0.45, 0.8) * ramp(side - 0.3, 0.3)
    return ribs * ramp(side - 0.08, 0.06) * ramp(0.75 - y, 0.3)
