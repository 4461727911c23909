"""Input for painting one picture of any modality, and the lesion that all modalities share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ttl_jax.data.phantom import outline
from ttl_jax.data.phantom.brushes import band_field, ramp
from ttl_jax.typing import Bool, Float

VISIBLE = 0.08  # a lesion's mask is where it weighs at least this much against the healthy picture


class Scene(NamedTuple):
    """One picture to paint: a pure value except for its two random streams, which painting advances.

    Attributes:
        size: Pixels per side.
        patient: Random stream shared by every image of a patient (anatomy, tint, exposure).
        image: Random stream of this image (view, lesion outline, clutter).
        granularity: Local texture of the lesion, 0 coarse to 1 fine.
        lobulation: Outline of the lesion, 0 smooth to 1 lobulated.
        contrast: Strength with which the lesion stands out, about 1.
        irregularity: Deviation of outlines from a circle, about 1 (see `outline.curve`).
        grain: Amplitude of the lesion's texture, about 1.
        healthy: Paint the same picture without its lesion.
    """

    size: int
    patient: np.random.Generator
    image: np.random.Generator
    granularity: float
    lobulation: float
    contrast: float
    irregularity: float
    grain: float
    healthy: bool


class Lesion(NamedTuple):
    """A lesion on the pixel grid.

    Attributes:
        weight: (s, s) float32, from 0 outside to `contrast` inside; 0 everywhere in a healthy picture.
        texture: (s, s) float32, mean 0 and standard deviation `grain` inside.
        depth: (s, s) float32, distance inwards from the border in half image sides.
        radius: Radius of the circle of the same area.
        mask: (s, s) bool, True where the lesion is visible (whether or not it is painted).
    """

    weight: Float[np.ndarray, "s s"]
    texture: Float[np.ndarray, "s s"]
    depth: Float[np.ndarray, "s s"]
    radius: float
    mask: Bool[np.ndarray, "s s"]


class Texture(NamedTuple):
    """Texture of a lesion.

    Attributes:
        coarsest, finest: Frequencies in cycles per image, between which the scene's granularity lies.
        stripes: Strength of the orientation about a random direction; 0 for none.
    """

    coarsest: float
    finest: float
    stripes: float = 0.0


class Painted(NamedTuple):
    """A finished picture: colours (s, s, 3) float32 in 0..1 before the sensor, and its mask."""

    colours: Float[np.ndarray, "s s 3"]
    mask: Bool[np.ndarray, "s s"]


def add_lesion(
    scene: Scene,
    x: Float[np.ndarray, "s s"],
    y: Float[np.ndarray, "s s"],
    centre: tuple[float, float],
    radius: tuple[float, float],
    *,
    edge: float,
    texture: Texture,
    axis: float | None = None,
) -> Lesion:
    """Return a lesion at `centre` with an area drawn from `radius` (lowest, highest).

    Args:
        edge: Width of the soft border.
        texture: Range of its frequencies, and its orientation.
        axis: Direction in which ovals are long, give or take 0.2 radians; None for any.
    """
    rng = scene.image
    size = float(rng.uniform(*radius))
    quotient = 1 + scene.irregularity * float(rng.uniform(0.5, 0.8))
    if axis is not None:
        axis = axis + float(rng.normal(0, 0.2))
    radii = outline.curve(rng, scene.lobulation, quotient, np.pi * size**2, axis)
    depth = outline.depth(radii, x, y, centre)
    weight = ramp(depth, edge)
    frequency = texture.coarsest * (texture.finest / texture.coarsest) ** scene.granularity
    angle = float(rng.uniform(0, np.pi))
    field = band_field(rng, scene.size, frequency, 0.25, texture.stripes, angle)
    total = np.sum(weight) + np.float32(1e-6)
    field = field - np.sum(weight * field) / total
    field = field / np.sqrt(np.sum(weight * field**2) / total + np.float32(1e-6))
    field = field * np.float32(scene.grain)
    mask = weight >= VISIBLE
    weight = weight * np.float32(0 if scene.healthy else scene.contrast)
    return Lesion(weight, field, depth, size, mask)


def gray(intensity: Float[np.ndarray, "s s"]) -> Float[np.ndarray, "s s 3"]:
    """Repeat one channel three times."""
    return np.repeat(intensity[..., None], 3, axis=-1)


def mixed(
    below: Float[np.ndarray, "s s 3"],
    above: Float[np.ndarray, "..."],
    weight: Float[np.ndarray, "s s"],
) -> Float[np.ndarray, "s s 3"]:
    """`above` laid over `below` with the given opacity (clipped to 0..1)."""
    return below + np.clip(weight, 0, 1)[..., None] * (above - below)
