"""H&E-like tissue: stroma with fibres and slim nuclei, and a nest of cells with its own nuclei.

Light is absorbed: colour = exp(-(haematoxylin, eosin) @ stain vectors), with the optical-density
vectors of Ruifrok and Johnston (2001). Every patient's slide is stained a little differently.
"""

from __future__ import annotations

import numpy as np

from ttl_jax.data.phantom.brushes import band_field, grid, ramp, smooth_field
from ttl_jax.data.phantom.scene import Painted, Scene, Texture, add_lesion
from ttl_jax.typing import Float

_STAINS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]], np.float32)
_NEST_SPACING = (0.26, 0.125)  # between nuclei, coarse .. fine, in half image sides


def paint(scene: Scene) -> Painted:
    """A tile from anywhere on the slide: only the staining is shared by a patient's images."""
    p, i, size = scene.patient, scene.image, scene.size
    x, y = grid(size)
    x = x + 0.02 * smooth_field(i, size, 5)
    y = y + 0.02 * smooth_field(i, size, 5)
    blue, pink = p.uniform((1.0, 0.35), (1.7, 0.75))
    stains = _STAINS * p.uniform(0.85, 1.15, _STAINS.shape).astype(np.float32)
    loose = p.uniform(0.5, 1.1)

    centre = i.uniform(-0.10, 0.10, 2)
    lesion = add_lesion(scene, x, y, (centre[0], centre[1]), (0.52, 0.64), edge=0.07, texture=Texture(5, 12))
    direction = float(i.uniform(0, np.pi))
    fibres = band_field(i, size, 7, 0.45, 2.5, direction)
    gaps = ramp(band_field(i, size, 4, 0.4, 1.5, direction) - loose, 0.7)
    nest = np.clip(lesion.weight, 0, 1)
    spacing = _NEST_SPACING[0] * (_NEST_SPACING[1] / _NEST_SPACING[0]) ** scene.granularity
    # radius proportional to spacing: many small or few large nuclei cover the same area
    cells = _nuclei(i, x, y, spacing, 0.30 * spacing, 1.25, 0.35, None)
    slim = _nuclei(i, x, y, 0.3, 0.045, 2.6, 0.5, direction + np.pi / 2)
    chromatin = 1 + 0.15 * band_field(i, size, 20, 0.3)

    outside = (1 - 0.85 * gaps) * (0.75 + 0.22 * fibres)
    inside = 0.62 + 0.05 * lesion.texture
    eosin = pink * (outside + nest * (inside - outside))
    haze = 0.06 + 0.10 * nest
    haematoxylin = blue * (haze + chromatin * (nest * cells + (1 - nest) * 0.8 * slim) * 0.75)
    density = np.maximum(np.stack([haematoxylin, eosin], axis=-1), 0) @ stains
    return Painted(0.97 * np.exp(-density), lesion.mask)


def _nuclei(
    rng: np.random.Generator,
    x: Float[np.ndarray, "s s"],
    y: Float[np.ndarray, "s s"],
    spacing: float,
    radius: float,
    elongation: float,
    jitter: float,
    direction: float | None,
) -> Float[np.ndarray, "s s"]:
    """Elliptical nuclei on a shaken grid of cells: 0 outside .. about 1 inside.

    Every pixel looks at the nearest nucleus only; `direction` None turns each its own way.
    """
    from scipy.spatial import cKDTree

    line = np.arange(-1 - spacing, 1 + spacing, spacing)
    rows, columns = np.meshgrid(line * 0.9, line, indexing="ij")
    columns = columns + 0.5 * spacing * (np.arange(len(line)) % 2)[:, None]  # hexagonal
    points = np.stack([columns.ravel(), rows.ravel()], axis=-1)
    points = points * 1.12 + spacing * rng.uniform(-jitter, jitter, points.shape)
    count = len(points)
    if direction is None:
        angles = rng.uniform(0, np.pi, count)
    else:
        angles = direction + rng.normal(0, 0.3, count)
    sizes = radius * np.exp(rng.normal(0, 0.15, count))
    darkness = rng.uniform(0.8, 1.2, count)
    pixels = np.stack([x.ravel(), y.ravel()], axis=-1)
    _, nearest = cKDTree(points).query(pixels)
    offset = pixels - points[nearest]
    cos, sin = np.cos(angles)[nearest], np.sin(angles)[nearest]
    along = (cos * offset[:, 0] + sin * offset[:, 1]) / elongation
    across = cos * offset[:, 1] - sin * offset[:, 0]
    inside = sizes[nearest] - np.hypot(along, across)
    return (darkness[nearest] * ramp(inside, 0.035)).astype(np.float32).reshape(x.shape)
