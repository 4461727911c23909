"""Limits that a DICOM file is held to before it is inflated or its frames are decoded."""

from __future__ import annotations

import struct
import zlib
from typing import IO

from ttl_jax.data.images.decode import UnreadableImageError
from ttl_jax.data.images.limits import check_unpacked

DEFLATED = b"1.2.840.10008.1.2.1.99"
_HEAD = 4096  # bytes: the file meta information is within them
_CHUNK = 1 << 20
_SIZES = bytes.fromhex("c0c1c2c3c5c6c7c9cacbcdcecff7")  # markers of a JPEG's size, and of JPEG-LS'
_SLACK = 64  # pixels a side that a codestream may be larger than its file says


def check_deflated(file: IO[bytes]) -> None:
    """Refuse a deflated data set that is out of proportion to its file: pydicom inflates it at once.

    Raises:
        UnreadableImageError: it inflates to too much.
    """
    head = file.read(_HEAD)
    if DEFLATED not in head:
        return
    # (0002,0000) UL: bytes of the file meta information behind it (PS3.10, 7.1)
    start = 132 if head[128:132] == b"DICM" else 0
    known = head[start : start + 8] == b"\x02\0\0\0UL\x04\0"
    size, inflated, inflate = file.seek(0, 2), 0, zlib.decompressobj(-zlib.MAX_WBITS)
    file.seek(start + 12 + (struct.unpack_from("<I", head, start + 8)[0] if known else 0))
    while part := file.read(_CHUNK):
        while part and not inflate.eof:
            inflated += len(inflate.decompress(part, _CHUNK))
            part = inflate.unconsumed_tail
            check_unpacked(inflated, size)


def check_size(frame: bytes, columns: int, rows: int) -> None:
    """Refuse a compressed frame that is larger than its file says.

    Args:
        frame: The compressed frame.
        columns, rows: Its size by the file's header, in pixels.

    Raises:
        UnreadableImageError: it is larger.
    """
    width, height = _jpeg_2000_size(frame) or _jpeg_size(frame) or (columns, rows)
    if width > columns + _SLACK or height > rows + _SLACK:
        raise UnreadableImageError(
            f"says it is {columns} x {rows} pixels, but its frame is {width} x {height}"
        )


def _jpeg_2000_size(frame: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG 2000 codestream (ITU-T T.800, A.5.1); None for another format."""
    place = frame.find(b"\xff\x4f\xff\x51", 0, _HEAD)
    if place < 0 or len(frame) < place + 24:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", frame, place + 8)
    return right - left, bottom - top


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG or JPEG-LS frame (ITU-T T.81, B.2.2); None for another format."""
    place = 2
    while frame[:2] == b"\xff\xd8" and place + 9 <= len(frame) and frame[place] == 0xFF:
        marker, length = frame[place + 1], int.from_bytes(frame[place + 2 : place + 4], "big")
        if marker in _SIZES:
            height, width = struct.unpack_from(">HH", frame, place + 5)
            return width, height
        place += 1 if marker == 0xFF else 2 + length
    return None
