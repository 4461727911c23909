"""Limits on what a compressed file may unpack to: a few bytes must not ask for all memory."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

CHUNK = 1 << 20


class PythonObjectsError(ValueError):
    """An array of Python objects, by its name: reading it could run anything."""


def check_room(needed: int, size: int, times: int, spare: int) -> None:
    """Refuse content that is out of proportion to its file.

    Args:
        needed: Bytes that the content takes in memory.
        size: Bytes of the file.
        times: Most bytes of content for a byte of the file.
        spare: Bytes that a file of any size may unpack to.

    Raises:
        ValueError: it is larger.
    """
    if needed > spare + times * size:
        raise ValueError(f"{size} bytes that unpack to {needed} are a trap or damaged")


def read_zipped_arrays(path: Path, times: int, spare: int) -> dict[str, np.ndarray]:
    """Read an .npz file whose every size is checked before memory is taken, and every checksum.

    Args:
        path: The file.
        times, spare: Limits as for `check_room`.

    Returns:
        The arrays by name, writable.

    Raises:
        PythonObjectsError: an array of objects.
        ValueError: an array that its member's bytes do not fill, or too large a content.
        zipfile.BadZipFile: damaged.
    """
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as file:
        check_room(sum(member.file_size for member in file.infolist()), path.stat().st_size, times, spare)
        for member in file.infolist():
            with file.open(member) as opened:
                name = member.filename.removesuffix(".npy")
                arrays[name] = _read_npy(opened, member.file_size, name)
    return arrays


def _read_npy(file: IO[bytes], size: int, name: str) -> np.ndarray:
    """Read an array that fills a stream of `size` bytes (NumPy's NEP 1)."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array of NumPy's format {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise PythonObjectsError(name)
    if not dtype.itemsize or math.prod(shape) * dtype.itemsize != size - file.tell():
        raise ValueError(f"an array of shape {shape} in {size} bytes")
    content = np.empty(size - file.tell(), np.uint8)
    place = 0
    while place < len(content):
        part = file.read(min(CHUNK, len(content) - place))
        if not part:
            raise ValueError("an array that is cut short")
        content[place : place + len(part)] = np.frombuffer(part, np.uint8)
        place += len(part)
    if file.read(1):  # and with the end of the stream, its checksum
        raise ValueError("bytes behind an array")
    return content.view(dtype).reshape(shape, order="F" if fortran else "C")
