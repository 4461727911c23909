"""A DICOM file as a data set, and the stored values of one of its frames."""

from __future__ import annotations

from copy import copy
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from stat import S_ISREG
from typing import IO, TYPE_CHECKING

import numpy as np

from ttl_jax.data.images.decode import UnreadableImageError, reason
from ttl_jax.data.images.limits import FLOATS, check_pixels, jpeg_ends_early
from ttl_jax.data.sources.dicom_limits import check_deflated, check_size
from ttl_jax.data.sources.gdcm_process import decode_by_gdcm
from ttl_jax.typing import Shaped

if TYPE_CHECKING:
    from pydicom import Dataset

_PLUGINS = ("pydicom", "pylibjpeg", "pyjpegls", "pillow")  # the exact ones first
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_DESCRIPTION = (  # PS3.3, C.7.6.3
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation",
)  # fmt: skip


def parsed(source: Path | bytes, attributes: tuple[str, ...] = ()) -> Dataset:
    """Read a file, with or without the DICM mark, file meta information and transfer syntax.

    Args:
        source: The file, or its content.
        attributes: Those to be read, without the pixels; all of them, and the pixels, if empty.

    Raises:
        UnreadableImageError: missing, damaged, or no DICOM file.
    """
    try:
        if isinstance(source, bytes):
            return _read(BytesIO(source), attributes)
        about = source.stat()
        if not S_ISREG(about.st_mode):
            raise UnreadableImageError("is not a file")
        if not attributes:
            return _whole(source, about.st_mtime_ns, about.st_size)
        with source.open("rb") as file:
            return _read(file, attributes)
    except UnreadableImageError:
        raise
    except FileNotFoundError:
        raise UnreadableImageError("does not exist") from None
    except MemoryError:
        raise UnreadableImageError("has too many pixels for the memory") from None
    except Exception as error:  # a damaged header makes pydicom raise nearly anything
        raise UnreadableImageError(f"cannot be read as DICOM ({reason(error)})") from None


@lru_cache(maxsize=2)  # the frames of a file are read one after the other
def _whole(path: Path, changed: int, size: int) -> Dataset:
    with path.open("rb") as file:
        return _read(file)


def _read(file: IO[bytes], attributes: tuple[str, ...] = ()) -> Dataset:
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    check_deflated(file)
    file.seek(0)
    some = [*attributes, "Rows", "Columns"] if attributes else None
    read = dcmread(file, stop_before_pixels=some is not None, force=True, specific_tags=some)
    if read.preamble is None and ("Rows" not in read or "Columns" not in read):
        raise UnreadableImageError("is not a DICOM file (no DICM mark at byte 128, and no image)")
    if "TransferSyntaxUID" not in read.file_meta:
        implicit, little = read.original_encoding
        plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        read.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
    return read


def stored_values(data_set: Dataset, number: int) -> Shaped[np.ndarray, "H W *C"]:
    """Return a frame's stored values, by the first of pydicom's plugins that can; GDCM is the last.

    Args:
        data_set: The parsed file.
        number: Number of the frame, from 0.

    Raises:
        UnreadableImageError: no pixels, or too many.
        Exception: nearly any, where pydicom or its plugins cannot decode it.
    """
    from pydicom.pixels import pixel_array
    from pydicom.uid import JPEGBaseline8Bit

    keyword = next((each for each in _PIXELS if data_set.get(each)), None)
    if keyword is None:
        raise UnreadableImageError("has no pixels")
    check_pixels(int(data_set.Columns), int(data_set.Rows), FLOATS)
    syntax = data_set.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax.is_deflated:
        if data_set[keyword].is_undefined_length:
            raise UnreadableImageError("does not say how its pixels are compressed (no transfer syntax)")
        return _from_the_low_bit(pixel_array(data_set, index=number), data_set, number)
    content = _frame(data_set, number)
    stored = _decoded(_alone(data_set, content))
    if syntax == JPEGBaseline8Bit and jpeg_ends_early(BytesIO(content), stored[-8:]):
        raise UnreadableImageError("ends early: its pixels stop before its last row")
    return stored


def _from_the_low_bit(
    stored: Shaped[np.ndarray, "H W *C"], data_set: Dataset, number: int
) -> Shaped[np.ndarray, "H W *C"]:
    """Return values that begin at bit 0, also of 12 bits in the upper ones of 16.

    Args:
        stored: Decoded from the lower bits.
        data_set, number: What they were decoded from.
    """
    from pydicom.pixels import pixel_array

    above = int(data_set.get("HighBit") or 0) + 1 - int(data_set.get("BitsStored") or 0)
    if stored.dtype.kind == "f" or not 0 < above < int(data_set.BitsAllocated):
        return stored
    whole = copy(data_set)
    whole.BitsStored = int(data_set.HighBit) + 1
    values = pixel_array(whole, index=number)
    return stored if (values & ((1 << above) - 1)).any() else values >> above


def _decoded(frame: Dataset) -> Shaped[np.ndarray, "H W *C"]:
    """Decode a compressed frame."""
    from pydicom.pixels import get_decoder, pixel_array

    available = get_decoder(frame.file_meta.TransferSyntaxUID).available_plugins
    if not available:
        return pixel_array(frame)  # says which plugins are missing
    failed = ""
    for plugin in _PLUGINS:
        if plugin in available:
            try:
                return pixel_array(frame, decoding_plugin=plugin)
            except Exception as error:  # its last line has the plugin's own words
                failed = str(error).strip().rpartition("\n")[2].strip()
    if "gdcm" in available:
        try:
            return decode_by_gdcm(frame)
        except ValueError as error:
            failed = failed or str(error)
    raise ValueError(failed)


def _frame(data_set: Dataset, number: int) -> bytes:
    """Return a compressed frame, checked against the file's header."""
    from pydicom.encaps import get_frame

    frames = int(data_set.get("NumberOfFrames") or 1)
    offsets = None
    if data_set.get("ExtendedOffsetTable"):
        offsets = (data_set.ExtendedOffsetTable, data_set.ExtendedOffsetTableLengths)
    content = get_frame(data_set.PixelData, number, number_of_frames=frames, extended_offsets=offsets)
    check_size(content, int(data_set.Columns), int(data_set.Rows))
    return content


def _alone(data_set: Dataset, content: bytes) -> Dataset:
    """Return a compressed frame as a data set of its own."""
    from pydicom import Dataset
    from pydicom.encaps import encapsulate

    alone = Dataset()
    alone.file_meta = data_set.file_meta
    for keyword in _DESCRIPTION:
        if keyword in data_set:
            alone[keyword] = data_set[keyword]
    alone.PixelData = encapsulate([content])
    alone["PixelData"].is_undefined_length = True
    return alone
