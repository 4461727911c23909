"""The other hospital: another detector, another tone curve, another noise."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ttl_jax.typing import Float


@lru_cache(maxsize=16)
def _coarsening(size: int, cells: int) -> Float[np.ndarray, "s s"]:
    """Matrix that averages `size` samples into `cells` with a soft kernel and interpolates back."""
    fine = (np.arange(size) + 0.5) / size
    coarse = (np.arange(cells) + 0.5) / cells
    down = np.exp(-0.5 * ((coarse[:, None] - fine) * cells / 0.5) ** 2)
    down /= down.sum(axis=1, keepdims=True)
    up = np.maximum(1 - np.abs(fine[:, None] - coarse) * cells, 0)
    up /= up.sum(axis=1, keepdims=True)
    return (up @ down).astype(np.float32)


def other_hospital(
    colours: Float[np.ndarray, "s s 3"], hospital: np.random.Generator, image: np.random.Generator
) -> Float[np.ndarray, "s s 3"]:
    """Apply lower resolution and blur, then gamma, contrast and colour cast; the caller adds the noise.

    Args:
        colours: Colours in 0..1, before the sensor's own noise.
        hospital: Random stream of the hospital, shared by all of its images.
        image: Random stream of the image.
    """
    size = colours.shape[0]
    lines = hospital.uniform(50, 58)  # whatever the size asked for: the detector has no more
    soften = _coarsening(size, max(4, round(min(lines, 0.85 * size))))
    coarse = np.matmul(soften, np.matmul(soften, colours.transpose(2, 0, 1)).transpose(0, 2, 1))
    coarse = coarse.transpose(2, 1, 0)
    gamma = hospital.uniform(1.25, 1.45) ** (1 if hospital.uniform() < 0.5 else -1)
    gamma = gamma * np.exp(image.normal(0, 0.05))
    gain, cast = hospital.uniform(0.85, 0.95), hospital.uniform(-0.04, 0.04, 3)
    if np.array_equal(colours[..., 0], colours[..., 1]):
        cast = np.full(3, cast.mean())  # a grey image stays grey
    toned = np.clip(coarse, 0, 1) ** np.float32(gamma)
    return (toned * gain + cast).astype(np.float32)
