"""One DICOM file: its header without identifying text, and its frames as images.

Compressed transfer syntaxes are decoded by pydicom's plugins, which the extra `ttl-jax[dicom]` installs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ttl_jax.data.images.decode import UnreadableImageError, reason
from ttl_jax.data.images.deep_colour import eight_bits
from ttl_jax.data.patient_key import hashed
from ttl_jax.data.sources.dicom_frame import parsed, stored_values
from ttl_jax.data.sources.dicom_gray import KINDS, gray_frame, holder
from ttl_jax.data.sources.dicom_series import Place
from ttl_jax.data.sources.frames import in_millimetres
from ttl_jax.data.sources.window import Window, to_bytes
from ttl_jax.typing import Shaped, UInt8

if TYPE_CHECKING:
    from PIL.Image import Image
    from pydicom import Dataset

INSTALL = "pip install 'ttl-jax[dicom]' brings its decoders"
_PATIENT = ("PatientID", "PatientName", "OtherPatientIDs")
IDENTIFYING = (
    *_PATIENT, "PatientBirthDate", "AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID",
    "SOPInstanceUID", "StudyID", "InstitutionName", "ReferringPhysicianName", "OperatorsName", "StationName",
    "DeviceSerialNumber",
)  # fmt: skip
_HEADER = (
    *_PATIENT, "NumberOfFrames", "Rows", "Columns", "SeriesInstanceUID", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing",
)  # fmt: skip


@dataclass(frozen=True)
class Header:
    """The part of a file's header that the listing needs.

    Attributes:
        frames: Number of images in the file.
        group: Hash of the patient (or of the keyword that data.group names); "" if the file has none.
        drawn_by: The same without the user's key: the name that a split is drawn by.
        names: Words that identify the patient, as lower-case letters and digits, to be kept out of ids.
        place: The series, and the position of the image in the patient.
    """

    frames: int
    group: str
    drawn_by: str
    names: frozenset[str]
    place: Place


@dataclass(frozen=True)
class DicomFrame:
    """One frame of a DICOM file as a Picture.

    Attributes:
        path: The file, or its content.
        frame: Number of the frame, from 0.
        window: Output of `parse_window`.
        spacing: Millimetres per pixel to scale to; 0 leaves the pixels as stored.
    """

    path: Path | bytes
    frame: int
    window: Window | str
    spacing: float

    def read(self) -> Image:
        """The frame as "L" or "RGB".

        Raises:
            UnreadableImageError: missing, damaged, no image, or in a compression without plugin.
        """
        from PIL import Image

        header = parsed(self.path)
        try:
            stored = stored_values(header, self.frame)
            image = Image.fromarray(_colour_or_gray(stored, header, self.frame, self.window))
            return in_millimetres(image, _spacing(header, self.frame), self.spacing)
        except UnreadableImageError:
            raise
        except MemoryError:
            raise UnreadableImageError("has too many pixels for the memory") from None
        except Exception as error:  # pydicom and its plugins raise nearly anything on damaged files
            if "missing dependencies" in str(error):
                raise UnreadableImageError(f"is compressed ({reason(error)}); {INSTALL}") from None
            raise UnreadableImageError(f"cannot be decoded ({reason(error)})") from None


def read_header(path: Path | bytes, keyword: str = "PatientID") -> Header:
    """Read the part of the header that the listing needs, without the pixels.

    Args:
        path: The file, or its content.
        keyword: The DICOM attribute to group by; "file" for the file itself, "" for none.

    Raises:
        UnreadableImageError: missing, damaged, or without an image.
    """
    extra = [keyword] if keyword not in ("", "file") else []
    header = parsed(path, (*_HEADER, *extra))
    try:
        if "Rows" not in header or "Columns" not in header:
            raise UnreadableImageError("holds no image")
        value = str(path) if keyword == "file" else _text(header, keyword) if keyword else ""
        names = {
            part
            for attribute in _PATIENT
            for part in re.split(r"[\W_]+", _text(header, attribute).lower())
            if len(part) > 2
        }
        number = re.sub(r"[\W_]+", "", _text(header, "PatientID").lower())
        frames = int(header.get("NumberOfFrames", 1) or 1)
        if not 0 < frames <= _room(path, header):
            raise UnreadableImageError(f"claims {frames} frames, which a file of its size cannot hold")
        kind = "patient" if keyword == "PatientID" else "group"
        return Header(
            frames,
            f"{kind}-{hashed(value)}" if value else "",
            f"{kind}-{hashed(value, keyed=False)}" if value else "",
            frozenset({*names, number} - {""}),
            Place(
                _text(header, "SeriesInstanceUID"),
                _numbers(header, "ImagePositionPatient"),
                _numbers(header, "ImageOrientationPatient"),
                _spacing(header, 0),
            ),
        )
    except UnreadableImageError:
        raise
    except Exception as error:  # pydicom reads values when they are asked for, and raises then
        raise UnreadableImageError(f"has a damaged header ({reason(error)})") from None


def identifying_tags(path: Path) -> dict[str, str]:
    """Return what of a file's header tells whose it is: {keyword: value}; errors as `read_header`."""
    header = parsed(path, IDENTIFYING)
    return {keyword: text for keyword in IDENTIFYING if (text := _text(header, keyword))}


def _room(path: Path | bytes, header: Dataset) -> int:
    """Return the most frames that a file can hold: a compressed one takes 8 bytes or more (PS3.5, A.4)."""
    syntax = header.file_meta.get("TransferSyntaxUID")
    each = 8
    if syntax is not None and not syntax.is_compressed and not syntax.is_deflated:
        each = max(1, int(header.Rows) * int(header.Columns) // 8)
    size = len(path) if isinstance(path, bytes) else path.stat().st_size
    return max(1, size // each)


def _text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value).strip().strip("\0")


def _numbers(header: Dataset, keyword: str) -> tuple[float, ...]:
    return tuple(float(value) for value in header.get(keyword) or ())


def _colour_or_gray(
    stored: Shaped[np.ndarray, "H W *C"], header: Dataset, frame: int, window: Window | str
) -> UInt8[np.ndarray, "H W *C"]:
    """Return a frame's 8-bit pixels."""
    kind = str(header.PhotometricInterpretation)
    if kind == "PALETTE COLOR":
        return _palette(stored, header)
    if stored.ndim == 3 and stored.shape[-1] == 3 and kind.startswith(("RGB", "YBR")):
        if stored.dtype == np.uint8:
            return stored
        bits = int(header.BitsStored)
        return eight_bits(stored) if bits == 16 else to_bytes(stored / (2**bits - 1))
    if kind not in KINDS:
        raise UnreadableImageError(f"has the photometric interpretation {kind}, which is not supported")
    return gray_frame(stored, header, frame, window)


def _palette(stored: Shaped[np.ndarray, "H W"], header: Dataset) -> UInt8[np.ndarray, "H W 3"]:
    """Return the colours of a palette; many write 8-bit colours into its 16-bit entries."""
    from pydicom.pixels import apply_color_lut

    entries, first, _ = (int(value) for value in header.RedPaletteColorLookupTableDescriptor)
    every = apply_color_lut(np.arange(first, first + (entries or 1 << 16)), header)
    bits = 8 if every.max() < 1 << 8 else 16
    return to_bytes(apply_color_lut(stored, header) / (2**bits - 1))


def _spacing(header: Dataset, frame: int) -> tuple[float, float] | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        value = holder(header, frame, keyword).get(keyword)
        if value and len(value) == 2:
            return float(value[0]), float(value[1])
    return None
