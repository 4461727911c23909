"""Images that a user holds in memory, of any size and kind of numbers, as the decoder takes them.

Nothing is guessed from one image where another tells more: the scale of floats is that of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ttl_jax.data.images.decode import ImageSource, Stack, plain
from ttl_jax.errors import UserError
from ttl_jax.typing import Shaped, UInt8

CHANNELS = (1, 3, 4)
_WHITE = 16.0  # least brightest value of images on 0 to 255; between 1 and it the scale is not known
_OVER_ONE = 1e-6  # of rounding, above 1


def array_images(given: Any, volumes: bool = False) -> list[ImageSource]:
    """List the images of an array, or of a list of arrays of mixed sizes, as uint8.

    Args:
        given: one image (H, W) or (H, W, 1, 3 or 4), many with N in front, or a sequence of images. Whole
            numbers from 0 to 255, or floats from 0 to 1 or from 0 to 255, the same for all of them.
        volumes: the images are volumes (D, H, W), or (D, H, W, 1, 3 or 4).

    Raises:
        UserError: another shape, other numbers, or a scale that the numbers do not tell.
    """
    if isinstance(given, list | tuple):
        arrays = [_array(each, f"image {number}") for number, each in enumerate(given)]
        images = [_one(each, number, volumes) for number, each in enumerate(arrays)]
    else:
        images = _apart(_array(given, "the array"), volumes)
    pixels = _bytes(images)
    return [Stack(tuple(each)) if volumes else each for each in pixels]


def _array(given: Any, what: str) -> np.ndarray:
    if hasattr(given, "getbands"):  # PIL's: a palette is no gray
        given = plain(given)
    try:
        array = np.asarray(given)
    except (ValueError, TypeError):
        raise UserError(
            f"{what} cannot be made an array: images of mixed sizes are a list of arrays"
        ) from None
    if array.dtype.kind not in "uif":
        raise UserError(
            f"{what} is of type {array.dtype}; give uint8, or floats from 0 to 1 or from 0 to 255"
        )
    return array


def _shapes(volumes: bool) -> str:
    return "(D, H, W) or (D, H, W, 1, 3 or 4)" if volumes else "(H, W) or (H, W, 1, 3 or 4)"


def _axes(array: np.ndarray, volumes: bool) -> int:
    """Return the number of axes before those of one image."""
    channels = array.ndim > 2 + volumes and array.shape[-1] in CHANNELS
    return array.ndim - 2 - volumes - channels


def _refused(what: str, array: np.ndarray, volumes: bool) -> UserError:
    hint = ""
    if not volumes and array.ndim in (3, 4) and array.shape[-3] in CHANNELS:
        hint = ": its channels come first, as in PyTorch; move them to the end (numpy.moveaxis)"
    elif not volumes and array.ndim >= 4:
        hint = ": this run takes flat images, not volumes"
    elif volumes and array.ndim in (2, 3):
        hint = ": this run takes volumes, not flat images"
    return UserError(f"{what} has shape {array.shape}{hint or '; ' + _shapes(volumes) + ' is needed'}")


def _apart(array: np.ndarray, volumes: bool) -> list[np.ndarray]:
    before = _axes(array, volumes)
    if before == 0:
        return [_one(array, 0, volumes)]
    if before != 1 or 0 in array.shape[1:]:
        raise _refused("the array", array, volumes)
    return list(array)


def _one(array: np.ndarray, number: int, volumes: bool) -> np.ndarray:
    if _axes(array, volumes) != 0 or 0 in array.shape:
        raise _refused(f"image {number}", array, volumes)
    return array


def _bytes(images: Sequence[Shaped[np.ndarray, "..."]]) -> list[UInt8[np.ndarray, "..."]]:
    """Bring all to 0..255, by the one scale that fits them."""
    tops = [_range(image, number) for number, image in enumerate(images)]
    floats = [number for number, image in enumerate(images) if image.dtype.kind == "f"]
    top = max((tops[number] for number in floats), default=0.0)
    to_one = top <= 1 + _OVER_ONE
    if not to_one and top < _WHITE:
        raise UserError(
            f"the brightest pixel of all images is {top:g}, which is neither on a scale from 0 to 1 nor on "
            "one from 0 to 255; scale them to one of these"
        )
    dark = [number for number in floats if not to_one and 0 < tops[number] <= 1 + _OVER_ONE]
    if dark:
        raise UserError(
            f"image {dark[0]} goes from 0 to {tops[dark[0]]:g} where others go to {top:g}; give all of them "
            "on one scale, 0 to 1 or 0 to 255"
        )
    factor = 255.0 if to_one else 1.0
    return [
        np.rint(np.clip(image.astype(np.float32) * factor, 0, 255)).astype(np.uint8)
        if image.dtype.kind == "f"
        else image.astype(np.uint8)
        for image in images
    ]


def _range(image: np.ndarray, number: int) -> float:
    """Return the largest value; raise UserError where one is none, or out of every range."""
    if image.dtype == np.uint8:
        return 255.0
    low, high = float(image.min()), float(image.max())
    if not np.isfinite([low, high]).all():
        raise UserError(f"image {number} has pixels that are NaN or infinite; mend them")
    if low < 0 or high > 255:
        raise UserError(
            f"image {number} goes from {low:g} to {high:g}; scale it to 0..255 as the training images were "
            "(DICOM and NIfTI files that are given as paths are windowed as in training)"
        )
    if image.dtype.kind != "f" and 0 < high < _WHITE:
        raise UserError(
            f"image {number} has whole numbers from 0 to {high:g}, as a mask has; scale it to 0..255"
        )
    return high
