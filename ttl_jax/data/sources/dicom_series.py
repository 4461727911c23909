"""The order of a DICOM series: its slices along the normal of their plane, and the millimetres between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ttl_jax.data.images.decode import UnreadableImageError

_PARALLEL = 1e-3  # most that a direction cosine may differ within a series
_GAP = 1.5  # times the median distance, from which a slice is missing between two
_SAME = 0.01  # of the median distance, below which two slices are at one position


@dataclass(frozen=True)
class Place:
    """Position of a file's image in the patient (DICOM PS3.3, C.7.6.2).

    Attributes:
        series: SeriesInstanceUID; "" if the file has none.
        position: ImagePositionPatient, millimetres (x, y, z); () if unknown.
        orientation: ImageOrientationPatient, cosines of the row and of the column; () if unknown.
        pixel: Height and width of a pixel in millimetres; None if unknown.
    """

    series: str
    position: tuple[float, ...] = ()
    orientation: tuple[float, ...] = ()
    pixel: tuple[float, float] | None = None


def order(places: Sequence[Place]) -> tuple[list[int], tuple[float, float, float] | None]:
    """Return the order of a series' slices and the size of a voxel.

    The normal is the row's direction crossed with the column's: for axial slices from the feet to the head.

    Args:
        places: Positions of the slices of one series.

    Returns:
        Positions in `places` along the normal; millimetres from slice to slice (the median), of a
        pixel's height and of its width, None for a single slice or where pixels do not tell.

    Raises:
        UnreadableImageError: a position is unknown, planes that are not parallel, two slices at one
            position, or a gap.
    """
    if len(places) == 1:
        return [0], None
    if any(len(place.position) != 3 or len(place.orientation) != 6 for place in places):
        raise UnreadableImageError(
            "has slices that do not tell their position, so that their order is unknown"
        )
    cosines = np.array([place.orientation for place in places])
    if np.abs(cosines - cosines[0]).max() > _PARALLEL:
        raise UnreadableImageError("has slices that are not parallel; leave localizers out")
    normal = np.cross(cosines[0, :3], cosines[0, 3:])
    along = np.array([place.position for place in places]) @ normal
    sorted_ = np.argsort(along, kind="stable")
    steps = np.diff(along[sorted_])
    median = float(np.median(steps))
    if not np.isfinite(steps).all() or median <= 0 or steps.min() < _SAME * median:
        raise UnreadableImageError("has two slices at one position; keep one phase, and each file once")
    if steps.max() > _GAP * median:
        raise UnreadableImageError(
            f"lacks slices: a gap of {steps.max():g} mm where others are {median:g} mm apart"
        )
    pixel = places[0].pixel
    return sorted_.tolist(), None if pixel is None else (median, *pixel)
