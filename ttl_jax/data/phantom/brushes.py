"""Coordinates, soft edges and random fields: the brushes that every modality paints with.

Lengths are in half image sides (x, y in [-1, 1], y downwards) and frequencies in cycles per image,
and the random numbers that a field draws do not depend on the size asked for. So the same scene at
64 and at 224 pixels is the same picture, sampled more finely.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ttl_jax.typing import Float

_BAND = 64  # band-limited fields hold frequencies below _BAND / 2 cycles per image
_SPLINE_STD = 0.479  # standard deviation of a 2-D cubic B-spline surface of N(0, 1) controls


@lru_cache(maxsize=8)
def grid(size: int) -> tuple[Float[np.ndarray, "s s"], Float[np.ndarray, "s s"]]:
    """Pixel centres (x, y), each (size, size) float32 in (-1, 1). Shared: do not write into them."""
    line = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1).astype(np.float32)
    y, x = np.meshgrid(line, line, indexing="ij")
    x.flags.writeable = y.flags.writeable = False
    return x, y


def viewed(
    rng: np.random.Generator, size: int, shift: float, turn: float, zoom: float
) -> tuple[Float[np.ndarray, "s s"], Float[np.ndarray, "s s"]]:
    """The grid seen from a slightly other position: shift, turn (radians) and zoom up to the given."""
    x, y = grid(size)
    dx, dy, angle, scale = rng.uniform(-1, 1, 4) * (shift, shift, turn, zoom)
    cos, sin = np.float32(np.cos(angle) * (1 + scale)), np.float32(np.sin(angle) * (1 + scale))
    return cos * x + sin * y + np.float32(dx), cos * y - sin * x + np.float32(dy)


def ramp(depth: Float[np.ndarray, "..."], width: float) -> Float[np.ndarray, "..."]:
    """Soft step 0 -> 1 over `width`, centred on depth 0, exactly 0 and 1 beyond it."""
    t = np.clip(depth / np.float32(width) + np.float32(0.5), 0, 1)
    return t * t * (3 - 2 * t)


def ellipse(
    x: Float[np.ndarray, "s s"],
    y: Float[np.ndarray, "s s"],
    centre: tuple[float, float],
    radii: tuple[float, float],
    angle: float = 0.0,
) -> Float[np.ndarray, "s s"]:
    """Depth below an ellipse's border, roughly in length units: positive inside, negative outside."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = x - np.float32(centre[0]), y - np.float32(centre[1])
    a, b = (cos * u + sin * v) / np.float32(radii[0]), (cos * v - sin * u) / np.float32(radii[1])
    return (1 - np.sqrt(a * a + b * b)) * np.float32(min(radii))


@lru_cache(maxsize=64)
def _spline_basis(size: int, cells: int) -> Float[np.ndarray, "s cells+3"]:
    at = (np.arange(size) + 0.5) / size * cells
    first = np.minimum(at.astype(int), cells - 1)
    t = at - first
    weights = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    basis = np.zeros((size, cells + 3), np.float32)
    for offset, weight in enumerate(weights):
        basis[np.arange(size), first + offset] = weight
    return basis


def smooth_field(rng: np.random.Generator, size: int, cells: int) -> Float[np.ndarray, "s s"]:
    """Smooth random surface, about N(0, 1) everywhere, with about `cells` bumps along a side."""
    controls = rng.standard_normal((cells + 3, cells + 3), np.float32)
    basis = _spline_basis(size, cells)
    return (basis @ controls @ basis.T) / np.float32(_SPLINE_STD)


@lru_cache(maxsize=1)
def _frequencies() -> tuple[Float[np.ndarray, "k l"], Float[np.ndarray, "k l"]]:
    down = np.fft.fftfreq(_BAND, 1 / _BAND)[:, None]
    along = np.fft.rfftfreq(_BAND, 1 / _BAND)[None, :]
    radius = np.hypot(down, along)
    radius[0, 0] = 1e-3  # the mean: any log-Gaussian band leaves it out
    return np.log(radius).astype(np.float32), np.arctan2(down, along).astype(np.float32)


def band_field(
    rng: np.random.Generator,
    size: int,
    frequency: float,
    bandwidth: float = 0.3,
    anisotropy: float = 0.0,
    angle: float = 0.0,
) -> Float[np.ndarray, "s s"]:
    """Stationary Gaussian field around one frequency, about N(0, 1) at every pixel.

    Args:
        frequency: Cycles per image side, below 32.
        bandwidth: Standard deviation of the log-normal band, in natural-log units.
        anisotropy: 0 for none; 3 gives clear stripes whose wave vector points along `angle`.
    """
    import scipy.fft

    log_radius, direction = _frequencies()
    noise = rng.standard_normal((2, *log_radius.shape), np.float32)
    gain = np.exp(-0.5 * ((log_radius - np.float32(np.log(frequency))) / bandwidth) ** 2)
    if anisotropy:
        gain = gain * np.exp(anisotropy * (np.cos(2 * (direction - np.float32(angle))) - 1))
    gain = gain.astype(np.float32)
    gain[_BAND // 2] = 0  # the Nyquist row and column have no partner to be conjugate to
    gain[:, -1] = 0
    spectrum = np.zeros((size, size // 2 + 1), np.complex64)
    half = min(_BAND, size) // 2
    coefficients = (noise[0] + 1j * noise[1]) * gain
    columns = slice(0, half if size < _BAND else half + 1)
    spectrum[:half, columns] = coefficients[:half, columns]
    spectrum[-half + 1 :, columns] = coefficients[-half + 1 :, columns]
    # a coefficient off the first column stands for its conjugate too; of the first column's sum
    # irfft2 keeps the real part only
    power = 4 * float(np.sum(gain[:, 1:] ** 2)) + float(np.sum(gain[:, 0] ** 2))
    return scipy.fft.irfft2(spectrum, s=(size, size)) * np.float32(size**2 / np.sqrt(power))
