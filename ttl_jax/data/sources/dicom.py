"""One DICOM file: its header without identifying text, and its frames as images.

Pixels follow the standard's chain (PS3.4, N.2): stored values -> modality LUT or rescale slope and
intercept -> VOI LUT or window -> MONOCHROME1 inverted. Compressed transfer syntaxes are decoded by
pydicom's plugins, which the extra `ttl-jax[dicom]` installs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ttl_jax.data.images.decode import UnreadableImageError, reason
from ttl_jax.data.patient_key import hashed
from ttl_jax.data.sources.dicom_series import Place
from ttl_jax.data.sources.frames import in_millimetres
from ttl_jax.data.sources.window import PERCENTILES, Window, spread, to_bytes
from ttl_jax.typing import Float

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
_GRAY = ("MONOCHROME1", "MONOCHROME2")
MAX_PIXELS = 200_000_000  # of a frame: a header may claim more than any memory holds


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
        path: The file.
        frame: Number of the frame, from 0.
        window: Output of `parse_window`.
        spacing: Millimetres per pixel to scale to; 0 leaves the pixels as stored.
    """

    path: Path
    frame: int
    window: Window | str
    spacing: float

    def read(self) -> Image:
        """The frame as "L" or "RGB".

        Raises:
            UnreadableImageError: missing, damaged, no image, or in a compression without plugin.
        """
        from PIL import Image

        header = _open(self.path)
        try:
            image = Image.fromarray(_pixels(self.path, header, self.frame, self.window))
            return in_millimetres(image, _spacing(header, self.frame), self.spacing)
        except UnreadableImageError:
            raise
        except MemoryError:
            raise UnreadableImageError("has too many pixels for the memory") from None
        except Exception as error:  # pydicom and its plugins raise nearly anything on damaged files
            if "missing dependencies" in str(error):
                raise UnreadableImageError(f"is compressed ({reason(error)}); {INSTALL}") from None
            raise UnreadableImageError(f"cannot be decoded ({reason(error)})") from None


def read_header(path: Path, keyword: str = "PatientID") -> Header:
    """Read the part of the header that the listing needs, without the pixels.

    Args:
        path: The file.
        keyword: The DICOM attribute to group by; "file" for the file itself, "" for none.

    Raises:
        UnreadableImageError: missing, damaged, or without an image.
    """
    extra = [keyword] if keyword not in ("", "file") else []
    header = _open(path, [*_HEADER, *extra])
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
    header = _open(path, list(IDENTIFYING))
    return {keyword: text for keyword in IDENTIFYING if (text := _text(header, keyword))}


def _room(path: Path, header: Dataset) -> int:
    """Return the most frames that a file can hold: a compressed one takes 8 bytes or more (PS3.5, A.4)."""
    syntax = header.file_meta.get("TransferSyntaxUID")
    each = 8
    if syntax is not None and not syntax.is_compressed and not syntax.is_deflated:
        each = max(1, int(header.Rows) * int(header.Columns) // 8)
    return max(1, path.stat().st_size // each)


def _open(path: Path, attributes: list[str] | None = None) -> Dataset:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    if path.exists() and not path.is_file():
        raise UnreadableImageError("is not a file")
    try:
        return dcmread(path, stop_before_pixels=True, specific_tags=attributes)
    except FileNotFoundError:
        raise UnreadableImageError("does not exist") from None
    except InvalidDicomError:
        raise UnreadableImageError("is not a DICOM file (no DICM mark at byte 128)") from None
    except Exception as error:  # a damaged header makes pydicom raise nearly anything
        raise UnreadableImageError(f"cannot be read as DICOM ({reason(error)})") from None


def _text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value).strip().strip("\0")


def _numbers(header: Dataset, keyword: str) -> tuple[float, ...]:
    return tuple(float(value) for value in header.get(keyword) or ())


def _pixels(path: Path, header: Dataset, frame: int, window: Window | str) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3)."""
    from pydicom.pixels import apply_color_lut, pixel_array

    if int(header.Rows) * int(header.Columns) > MAX_PIXELS:
        raise UnreadableImageError(f"claims {header.Rows} x {header.Columns} pixels")
    kind = str(header.PhotometricInterpretation)
    stored = pixel_array(path, index=frame)
    if not stored.size:
        raise UnreadableImageError("has no pixels")
    if kind == "PALETTE COLOR":
        stored = apply_color_lut(stored, header)
        return to_bytes(stored / np.iinfo(stored.dtype).max)
    if stored.ndim == 3 and stored.shape[-1] == 3:
        return stored if stored.dtype == np.uint8 else to_bytes(stored / (2 ** int(header.BitsStored) - 1))
    if kind not in _GRAY:
        raise UnreadableImageError(f"has the photometric interpretation {kind}, which is not supported")
    return _gray(stored, header, frame, window)


def _gray(stored: np.ndarray, header: Dataset, frame: int, window: Window | str) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut

    if not np.isfinite(stored).all():
        raise UnreadableImageError("has pixels that are NaN or infinite")
    values = apply_modality_lut(stored, _holder(header, frame, "RescaleSlope", "ModalityLUTSequence"))
    padding = _padding(stored, header)
    brightness = None
    if isinstance(window, Window):
        brightness = window.apply(values)
    elif not window:
        brightness = _own_window(values, header, frame)
    if brightness is None:
        percentiles = PERCENTILES if window == "percentile" else (0.0, 100.0)
        whole = spread(values[~padding], percentiles)
        brightness = whole.apply(values) if whole else np.zeros(values.shape)
    if str(header.PhotometricInterpretation) == "MONOCHROME1":
        brightness = 1 - brightness
    brightness[padding] = 0
    return to_bytes(brightness)


def _own_window(values: np.ndarray, header: Dataset, frame: int) -> Float[np.ndarray, "H W"] | None:
    """Apply the file's VOI LUT, else its first window; None if it has neither."""
    from pydicom.pixels import apply_voi

    tables = _holder(header, frame, "VOILUTSequence")
    if tables.get("VOILUTSequence"):
        top = 2 ** int(tables.VOILUTSequence[0].LUTDescriptor[2]) - 1
        return apply_voi(values, tables).astype(np.float64) / top
    holder = _holder(header, frame, "WindowCenter")
    if holder.get("WindowCenter") is None or holder.get("WindowWidth") is None:
        return None
    function = str(holder.get("VOILUTFunction") or "LINEAR").replace(" ", "_")
    try:
        own = Window(_first(holder.WindowCenter), _first(holder.WindowWidth), function)
    except (ValueError, TypeError, IndexError) as error:
        raise UnreadableImageError(f"has a window that is none ({reason(error)}); set data.window") from None
    return own.apply(values)


def _padding(stored: np.ndarray, header: Dataset) -> np.ndarray:
    """bool (H, W): pixels outside what the scanner saw (PS3.3, C.7.5.1.1.2)."""
    value = header.get("PixelPaddingValue")
    if value is None or np.issubdtype(stored.dtype, np.floating):
        return np.zeros(stored.shape, bool)
    limit = header.get("PixelPaddingRangeLimit")
    ends = sorted((int(value), int(value if limit is None else limit)))
    outside = (stored >= ends[0]) & (stored <= ends[1])
    return outside if not outside.all() else np.zeros(stored.shape, bool)


def _spacing(header: Dataset, frame: int) -> tuple[float, float] | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        value = _holder(header, frame, keyword).get(keyword)
        if value is not None and len(value) == 2:
            return float(value[0]), float(value[1])
    return None


# Where an enhanced multi-frame file keeps what others have at the top (PS3.3, C.7.6.16).
_MACROS = {
    "RescaleSlope": "PixelValueTransformationSequence",
    "WindowCenter": "FrameVOILUTSequence",
    "VOILUTSequence": "FrameVOILUTSequence",
    "PixelSpacing": "PixelMeasuresSequence",
}


def _holder(header: Dataset, frame: int, *keywords: str) -> Dataset:
    """Return the part of the header that is valid for this frame: its own, the shared, or the header."""
    own = (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0))
    for keyword in keywords:
        if keyword not in _MACROS:
            continue
        for groups, place in own:
            items: Any = header.get(groups)
            if not items or place >= len(items):
                continue
            holders: Any = items[place].get(_MACROS[keyword])
            if holders and keyword in holders[0]:
                return holders[0]
    return header


def _first(value: Any) -> float:
    """Return the first of several windows; numbers are DICOM decimal strings, one or many."""
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)
