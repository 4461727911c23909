"""Files that hold many images: which of them are examples, and their pixels in millimetres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ttl_jax.data.images.decode import ImageSource, Picture, Stack, UnreadableImageError
from ttl_jax.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_SIDE = 20000  # pixels; spacing in another unit than millimetres gives absurd sizes


@dataclass(frozen=True)
class Unreadable:
    """Placeholder for a file that the source could not open, until images are read and faults counted."""

    reason: str

    def read(self) -> Image:
        """Raise UnreadableImageError."""
        raise UnreadableImageError(self.reason)

    @classmethod
    def example(cls, reason: str, slices: str) -> ImageSource:
        """Return a placeholder for an image, or for a volume if `data.slices` asks for one."""
        return Stack((cls(reason),)) if slices == "volume" else cls(reason)


def check_slices(text: str) -> None:
    """Raise UserError unless `text` is "all", "middle", "volume" or a number above 0."""
    if text not in ("all", "middle", "volume") and not (text.isdecimal() and int(text) > 0):
        raise UserError(f"data.slices={text!r} is neither 'all', 'middle' or 'volume' nor a number above 0")


def examples_of(
    count: int,
    text: str,
    picture: Callable[[int], Picture],
    millimetres: tuple[float, float, float] | None = None,
) -> list[ImageSource]:
    """Return the examples of a file with `count` frames or slices.

    Args:
        count: Number of frames in the file.
        text: Value of `data.slices`. "volume" makes one example of all frames. A number K takes the middles
            of K equal parts, frames (2 i + 1) count / 2 K rounded down, or all frames if there are fewer than
            K.
        picture: Maps a frame's number to its picture.
        millimetres: Voxel size, as in `Stack`.
    """
    if text == "volume":
        return [Stack(tuple(picture(number) for number in range(count)), millimetres)]
    wanted = 1 if text == "middle" else count if text == "all" else int(text)
    if wanted >= count:
        return [picture(number) for number in range(count)]
    return [picture((2 * place + 1) * count // (2 * wanted)) for place in range(wanted)]


def in_millimetres(image: Image, pixel: tuple[float, float] | None, spacing: float) -> Image:
    """Scale the image so that a pixel is `spacing` millimetres, with antialiasing; 0 leaves it.

    Args:
        image: Image of mode "L" or "RGB".
        pixel: Height and width of a pixel in millimetres; None if unknown.
        spacing: Millimetres per pixel of the result.

    Raises:
        UnreadableImageError: the pixels' size is unknown or absurd.
    """
    from PIL.Image import Resampling

    if not spacing:
        return image
    if pixel is None or not all(np.isfinite(side) and side > 0 for side in pixel):
        raise UnreadableImageError("does not tell the size of its pixels, which data.spacing needs")
    height = max(1, round(image.height * pixel[0] / spacing))
    width = max(1, round(image.width * pixel[1] / spacing))
    if max(height, width) > MAX_SIDE:
        raise UnreadableImageError(
            f"has pixels of {pixel[0]:g} x {pixel[1]:g} mm, so that data.spacing={spacing:g} would need "
            f"{height} x {width} of them"
        )
    return image if (width, height) == image.size else image.resize((width, height), Resampling.BILINEAR)
