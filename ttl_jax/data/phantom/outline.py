"""Outlines of lesions: two families of star-shaped curves with the same area and perimeter.

A curve is r(t) = r0 exp(a g(t)), g a random trigonometric polynomial of unit power. Low modes (2, 3)
give ovals, eggs and beans ("smooth"), high modes (4, 5, 6) give lobes ("lobulated"). Both draw the
area and the isoperimetric quotient P^2 / (4 pi A) from the same distributions, and r0 and a are
solved for. So both have as much inside, as much border, and a border of the same softness: a
filter that sees a small patch cannot tell them apart, only one that sees the outline can.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ttl_jax.typing import Float

LOW_MODES = (2, 3)
HIGH_MODES = (4, 5, 6)
_SAMPLES = 180
_AMPLITUDES = np.linspace(0.02, 0.75, 40)


@lru_cache(maxsize=1)
def _waves() -> Float[np.ndarray, "modes 2 t"]:
    t = np.arange(_SAMPLES) * (2 * np.pi / _SAMPLES)
    modes = np.array(LOW_MODES + HIGH_MODES)
    return np.stack([np.cos(modes[:, None] * t), np.sin(modes[:, None] * t)], axis=1)


def curve(
    rng: np.random.Generator,
    lobulation: float,
    quotient: float,
    area: float,
    axis: float | None = None,
) -> Float[np.ndarray, "t"]:
    """Return radii (180,) at equal angles of a random star-shaped curve.

    Args:
        lobulation: 0 uses low modes only, 1 high modes only; in between, their powers are mixed.
        quotient: P^2 / (4 pi A) of the curve, above 1 (1 is a circle).
        area: Area inside the curve, in squared length units.
        axis: Direction in which ovals are long, in radians; None for any.
    """
    mix = rng.standard_normal((len(LOW_MODES) + len(HIGH_MODES), 2))
    # mode 3 at less weight: ovals, with some eggs and beans among them
    mix[1] *= 0.3
    if axis is not None:
        mix[0] = np.hypot(*mix[0]) * np.array([np.cos(2 * axis), np.sin(2 * axis)])
    low, high = mix[: len(LOW_MODES)], mix[len(LOW_MODES) :]
    low = low / np.sqrt(np.sum(low**2)) * np.sqrt(1 - lobulation)
    high = high / np.sqrt(np.sum(high**2)) * np.sqrt(lobulation)
    shape = np.tensordot(np.concatenate([low, high]), _waves(), axes=2)
    radii = np.exp(_AMPLITUDES[:, None] * shape)
    step = 2 * np.pi / _SAMPLES
    areas = 0.5 * np.sum(radii**2, axis=1) * step
    slopes = (np.roll(radii, -1, axis=1) - np.roll(radii, 1, axis=1)) / (2 * step)
    perimeters = np.sum(np.hypot(radii, slopes), axis=1) * step
    amplitude = np.interp(quotient, perimeters**2 / (4 * np.pi * areas), _AMPLITUDES)
    radius = np.exp(amplitude * shape)
    return radius * np.sqrt(area / (0.5 * np.sum(radius**2) * step))


def depth(
    radii: Float[np.ndarray, "t"],
    x: Float[np.ndarray, "s s"],
    y: Float[np.ndarray, "s s"],
    centre: tuple[float, float],
) -> Float[np.ndarray, "s s"]:
    """Distance to the curve to first order (positive inside), the same slope all along it."""
    u, v = x - np.float32(centre[0]), y - np.float32(centre[1])
    distance = np.sqrt(u * u + v * v)
    at = np.arctan2(v, u) * (_SAMPLES / (2 * np.pi))
    table = np.arange(_SAMPLES)
    slopes = (np.roll(radii, -1) - np.roll(radii, 1)) * (_SAMPLES / (4 * np.pi))
    radius = np.interp(at, table, radii, period=_SAMPLES)
    slope = np.interp(at, table, slopes, period=_SAMPLES)
    # |grad (r(t) - rho)| = sqrt(1 + (r' / rho)^2): dividing makes steep flanks no sharper
    steepness = np.sqrt(1 + (slope / np.maximum(distance, 0.5 * radius)) ** 2)
    return ((radius - distance) / steepness).astype(np.float32)
