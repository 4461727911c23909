"""Limits that a DICOM file is held to before it is inflated or its frames are decoded."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from ttl_jax.data.images.decode import UnreadableImageError
from ttl_jax.data.images.limits import FLOATS, check_pixels, check_unpacked

if TYPE_CHECKING:
    from pydicom import Dataset

DEFLATED = b"1.2.840.10008.1.2.1.99"
_HEAD = 4096  # bytes: the file meta information is within them
_CHUNK = 1 << 20
_SIZES = {
    0xC0,
    0xC1,
    0xC2,
    0xC3,
    0xC5,
    0xC6,
    0xC7,
    0xC9,
    0xCA,
    0xCB,
    0xCD,
    0xCE,
    0xCF,
    0xF7,
}  # JPEG's, JPEG-LS'
_SLACK = 64  # pixels a side that a codestream may be larger than its file says


def check_deflated(path: Path) -> None:
    """Refuse a deflated data set that is out of proportion to its file: pydicom inflates it at once.

    Raises:
        UnreadableImageError: it inflates to too much.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if DEFLATED not in head:
            return
        # (0002,0000) UL: bytes of the file meta information behind it (PS3.10, 7.1)
        length = struct.unpack_from("<I", head, 140)[0] if head[132:140] == b"\x02\0\0\0UL\x04\0" else 0
        file.seek(144 + length)
        size, inflated, inflate = path.stat().st_size, 0, zlib.decompressobj(-zlib.MAX_WBITS)
        while part := file.read(_CHUNK):
            while part and not inflate.eof:
                inflated += len(inflate.decompress(part, _CHUNK))
                part = inflate.unconsumed_tail
                check_unpacked(inflated, size)


def check_frame(path: Path, header: Dataset, number: int) -> None:
    """Refuse a frame of too many pixels, by its file's header and, if it is compressed, by its own.

    Args:
        path: The file.
        header: Its header.
        number: Number of the frame, from 0.

    Raises:
        UnreadableImageError: too many pixels, or a frame larger than its file says.
    """
    rows, columns = int(header.Rows), int(header.Columns)
    check_pixels(columns, rows, FLOATS)
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_compressed or syntax.is_deflated:
        return
    frame = _frame(path, number)
    width, height = _jpeg_2000_size(frame) or _jpeg_size(frame) or (columns, rows)
    if width > columns + _SLACK or height > rows + _SLACK:
        raise UnreadableImageError(
            f"says it is {columns} x {rows} pixels, but its frame is {width} x {height}"
        )


def _frame(path: Path, number: int) -> bytes:
    """Return a compressed frame."""
    from pydicom import dcmread
    from pydicom.encaps import get_frame

    with path.open("rb") as file:
        header = dcmread(file, stop_before_pixels=True, specific_tags=["NumberOfFrames"])
        file.seek(12, 1)  # from the tag of PixelData behind its VR and its length
        return get_frame(file, number, number_of_frames=int(header.get("NumberOfFrames", 1) or 1))


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
