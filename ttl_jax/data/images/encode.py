"""Encoding of an image as a PNG or JPEG file without the metadata of its source."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ttl_jax.data.images.decode import ImageSource, UnreadableImageError, read_stream, whole

_KEPT = (0xE0, 0xEE)  # JFIF, and Adobe's colour transform, which decoding needs
_ALONE = (0x01, *range(0xD0, 0xD8))  # markers without a length


def encode(source: ImageSource) -> tuple[bytes, tuple[int, int]]:
    """Return an image's bytes, decoding to the same pixels, and its (height, width).

    A JPEG file keeps its compressed data and loses its metadata (EXIF with places and names,
    comments, thumbnails); everything else becomes PNG.

    Raises:
        UnreadableImageError: as `decode`.
    """
    from PIL import Image

    image = whole(source)
    if isinstance(source, Path):
        bare = _bare_jpeg(source)
        if bare and _same(bare, image):
            return bare, (image.height, image.width)
    made = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(made, "PNG")  # a fresh image carries no metadata
    return made.getvalue(), (image.height, image.width)


def strip_jpeg(content: bytes) -> bytes:
    """Return a JPEG file without its APPn and COM segments, but JFIF and Adobe (ITU-T T.81, annex B).

    Raises:
        ValueError: not a JPEG file, or damaged.
    """
    if content[:2] != b"\xff\xd8":
        raise ValueError("no JPEG file")
    parts, place = [content[:2]], 2
    while True:
        if place + 4 > len(content) or content[place] != 0xFF:
            raise ValueError("damaged")
        marker = content[place + 1]
        if marker == 0xFF:  # filling
            place += 1
            continue
        if marker == 0xDA:  # the compressed data, up to the end of the file
            end = content.rfind(b"\xff\xd9")
            return b"".join(parts) + content[place : end + 2 if end > place else len(content)]
        length = 0 if marker in _ALONE else int.from_bytes(content[place + 2 : place + 4], "big")
        segment = content[place : place + 2 + length]
        if marker in _KEPT or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            parts.append(segment)
        place += len(segment)


def _bare_jpeg(path: Path) -> bytes:
    """Return the stripped file, or b"" for any other kind."""
    try:
        content = path.read_bytes()
        return strip_jpeg(content) if content[:2] == b"\xff\xd8" else b""
    except (OSError, ValueError):
        return b""


def _same(content: bytes, image: object) -> bool:
    """Return True if the bytes still decode to these pixels; they do not if EXIF turns them."""
    try:
        return np.array_equal(np.asarray(read_stream(io.BytesIO(content))), np.asarray(image))
    except UnreadableImageError:
        return False
