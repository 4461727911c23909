"""Slices of a volume that a .npy file holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ttl_jax.data.images.decode import UnreadableImageError, reason
from ttl_jax.data.images.limits import FLOATS, check_pixels
from ttl_jax.data.sources.window import Window, to_bytes

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class NpySlice:
    """One slice of a .npy volume (slices, rows, columns) as a Picture.

    Attributes:
        path: The file.
        number: Number of the slice.
        window: Maps the file's numbers (Hounsfield units for CT) to gray levels.
    """

    path: Path
    number: int
    window: Window

    def read(self) -> Image:
        """The slice as "L".

        Raises:
            UnreadableImageError: missing, damaged, no volume, or with NaN.
        """
        from PIL import Image

        values = np.asarray(_open(self.path)[self.number])
        if not np.isfinite(values).all():
            raise UnreadableImageError("has voxels that are NaN or infinite")
        return Image.fromarray(to_bytes(self.window.apply(values)))


def slices_of(path: Path) -> int:
    """Return the number of slices in the file.

    Raises:
        UnreadableImageError: as `NpySlice.read`.
    """
    return len(_open(path))


def _open(path: Path) -> np.ndarray:
    """Map the volume into memory: only the slices that are asked for are read."""
    try:
        volume = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UnreadableImageError("does not exist") from None
    except Exception as error:  # NumPy raises several kinds on a damaged file
        raise UnreadableImageError(f"cannot be read as .npy ({reason(error)})") from None
    if (
        not isinstance(volume, np.ndarray)
        or volume.ndim != 3
        or not volume.size
        or volume.dtype.kind not in "iuf"
    ):
        shape = getattr(volume, "shape", None)
        raise UnreadableImageError(f"has the shape {shape}, which is no volume of numbers")
    check_pixels(volume.shape[2], volume.shape[1], FLOATS)
    return volume
