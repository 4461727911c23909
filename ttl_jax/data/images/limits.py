"""Limits that an image is held to before its pixels are decoded, and a look for pixels that are not there.

Decoders believe a header: 68 bytes may claim 100 million pixels, and where a stream of pixels ends early the
rest is left black or gray.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import IO, TYPE_CHECKING

import numpy as np

from ttl_jax.data.images.deep_colour import stored_as
from ttl_jax.typing import Shaped

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

MAX_SIDE = 65_535  # pixels, as in JPEG, TIFF's tiles and DICOM; PIL's resizing takes memory in proportion
MAX_BYTES = 1_500_000_000  # of one image at its worst moment, until it is 8-bit gray or colour
TIMES, SPARE = 64, 128 << 20  # of compressed volumes: most bytes for a byte of the file, and for a small one
FLOATS = 30  # bytes a pixel takes where numbers are windowed in double precision
_CHUNK = 1 << 20
_MOST_A_BYTE = 512  # pixels of a JPEG: a block of 64 takes a bit or more
_MOST_PASSES = 64  # of a progressive JPEG, which has about ten


class UnreadableImageError(Exception):
    """The reason why an image cannot be used; the caller adds its file and row."""


def check_pixels(width: int, height: int, each: int) -> None:
    """Refuse an image that would take too much memory.

    Args:
        width, height: Sides of the image, in pixels.
        each: Bytes that a pixel takes at the worst moment of decoding and conversion.

    Raises:
        UnreadableImageError: too long a side, or too many pixels.
    """
    if max(width, height) > MAX_SIDE or width * height * each > MAX_BYTES:
        raise UnreadableImageError(f"has too many pixels ({width} x {height}); cut it into tiles first")


def check_unpacked(needed: int, size: int) -> None:
    """Refuse a compressed file whose content is out of proportion to it.

    Args:
        needed: Bytes of its content.
        size: Bytes of the file.

    Raises:
        UnreadableImageError: no image shrinks so far.
    """
    if needed > SPARE + TIMES * size:
        raise UnreadableImageError(f"claims {needed} bytes of pixels in {size} bytes, as no image does")


def check_opened(image: ImageFile, size: int) -> None:
    """Refuse an image that PIL has opened, before it decodes the pixels.

    Args:
        image: The image.
        size: Bytes of the file.

    Raises:
        UnreadableImageError: too many pixels, more than the file can hold, or too many passes over them.
    """
    width, height = image.size
    check_pixels(width, height, _bytes_a_pixel(image))
    if image.format != "JPEG":
        return
    if width * height > _MOST_A_BYTE * size:
        raise UnreadableImageError(f"ends early: {size} bytes cannot hold {width} x {height} pixels")
    if image.info.get("progressive"):
        assert image.fp is not None
        image.fp.seek(0)
        passes = image.fp.read().count(b"\xff\xda")
        if passes > _MOST_PASSES:
            raise UnreadableImageError(f"has {passes} passes over its pixels; save it anew")


def _bytes_a_pixel(image: ImageFile) -> int:
    """Return the bytes a pixel takes until it is 8-bit gray or colour, measured for PIL's modes."""
    if image.mode in ("F", "I") or stored_as(image):
        return 20  # double precision, of a part at a time; two bytes a colour
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or image.format in ("JPEG2000", "WEBP"):
        return 17  # colour over a canvas, or a decoder's own integers
    if image.mode.startswith("I") or image.info.get("progressive"):
        return 15
    return 10 if image.mode in ("CMYK", "YCbCr", "LAB", "HSV") else 6


def ends_early(file: IO[bytes], format: str | None, image: Image) -> bool:
    """Return True if the file's pixels stop before the image's last row.

    Only where the last rows look like it: zero in PNG (or interlaced), of one gray or colour in JPEG.

    Args:
        file: The encoded image.
        format: PIL's name of its format.
        image: The decoded image.
    """
    if format == "PNG":
        last = np.asarray(image.crop((0, image.height - 1, *image.size)))
        return (not last.any() or bool(image.info.get("interlace"))) and _png_ends_early(file)
    if format == "JPEG":
        return jpeg_ends_early(file, np.asarray(image.crop((0, max(0, image.height - 8), *image.size))))
    return False


def _png_ends_early(file: IO[bytes]) -> bool:
    """Return True if a PNG's stream is shorter than its rows (PNG 1.2, sections 2.3 and 8)."""
    file.seek(8)
    inflate, have, needed = zlib.decompressobj(), 0, 1
    while have < needed and len(head := file.read(8)) == 8:
        part = file.read(int.from_bytes(head[:4], "big"))
        if head[4:] == b"IHDR":
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", part)
            bits = depth * {2: 3, 4: 2, 6: 4}.get(colour, 1)
            needed = sum((1 + -(-w * bits // 8)) * h for w, h in _passes(width, height, interlaced) if w)
        while head[4:] == b"IDAT" and part and have < needed:
            have += len(inflate.decompress(part, _CHUNK))
            part = inflate.unconsumed_tail
        file.seek(4, 1)  # the chunk's checksum
    return have < needed


def _passes(width: int, height: int, interlaced: int) -> list[tuple[int, int]]:
    """Return the sides of the images that a PNG's rows are stored as: one, or Adam7's."""
    if not interlaced:
        return [(width, height)]
    starts = "0088 4088 0448 2044 0224 1022 0112".split()  # x, y and their steps
    return [
        (-(-(width - x) // dx), -(-(height - y) // dy))
        for x, y, dx, dy in (map(int, each) for each in starts)
    ]


def jpeg_ends_early(file: IO[bytes], last: Shaped[np.ndarray, "rows W *C"]) -> bool:
    """Return True if more data before a JPEG's end would change its pixels: then some are missing.

    A decoder passes over what follows the last pixel, and fills up what is missing with one colour.

    Args:
        file: The encoded image.
        last: Its last rows, eight or more; nothing is missing where they have several colours.
    """
    from PIL import Image

    if not (last == last[0, 0]).all():
        return False
    file.seek(0)
    content = file.read()
    end = content.rfind(b"\xff\xd9")
    small = []
    for data in (content, content[:end] + bytes(range(1, 255)) * 4 + content[end:]):
        opened = Image.open(io.BytesIO(data))
        opened.draft(opened.mode, (max(1, opened.width // 8), max(1, opened.height // 8)))  # fast, small
        small.append(np.asarray(opened))
    return end > 0 and not np.array_equal(small[0], small[1])
