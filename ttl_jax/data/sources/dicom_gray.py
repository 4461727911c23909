"""Gray of a DICOM frame, by the standard's chain (PS3.4, N.2).

Stored values -> modality LUT or rescale slope and intercept -> VOI LUT or window -> MONOCHROME1 inverted.
Empty attributes, as anonymisation leaves them, are absent ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ttl_jax.data.images.decode import UnreadableImageError, reason
from ttl_jax.data.sources.window import PERCENTILES, Window, spread, to_bytes
from ttl_jax.typing import Bool, Float, Shaped, UInt8

if TYPE_CHECKING:
    from pydicom import Dataset

KINDS = ("MONOCHROME1", "MONOCHROME2")
_SMALL_SLOPE = 0.1  # with it, a window of stored values cannot be taken for one of modality values


def gray_frame(
    stored: Shaped[np.ndarray, "H W"], header: Dataset, frame: int, window: Window | str
) -> UInt8[np.ndarray, "H W"]:
    """Return a frame's brightness.

    Args:
        stored: The decoded values.
        header: The file's data set.
        frame: Number of the frame, from 0.
        window: Output of `parse_window`.

    Raises:
        UnreadableImageError: values, a slope or a window that are no numbers.
    """
    if not np.isfinite(stored).all():
        raise UnreadableImageError("has pixels that are NaN or infinite")
    values, slope = _modality(stored, header, frame)
    padding = _padding(stored, header)
    brightness = None
    if isinstance(window, Window):
        brightness = window.apply(values)
    elif not window:
        brightness = _own_window(stored, values, slope, header, frame)
    if brightness is None:
        percentiles = PERCENTILES if window == "percentile" else (0.0, 100.0)
        whole = spread(values[~padding], percentiles)
        brightness = whole.apply(values) if whole else np.zeros(values.shape)
    if str(header.PhotometricInterpretation) == "MONOCHROME1":
        brightness = 1 - brightness
    brightness[padding] = 0
    return to_bytes(brightness)


def holder(header: Dataset, frame: int, *keywords: str) -> Dataset:
    """Return the part of the header that is valid for this frame: its own, the shared, or the header.

    Args:
        header: The file's data set.
        frame: Number of the frame, from 0.
        keywords: Attributes of one macro, of which the part has one.
    """
    own = (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0))
    for groups, place in own:
        items: Any = header.get(groups)
        if not items or place >= len(items):
            continue
        for keyword in keywords:
            holders: Any = items[place].get(_MACROS[keyword]) if keyword in _MACROS else None
            if holders and holders[0].get(keyword) is not None:
                return holders[0]
    return header


# Where an enhanced multi-frame file keeps what others have at the top (PS3.3, C.7.6.16).
_MACROS = {
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "WindowCenter": "FrameVOILUTSequence",
    "VOILUTSequence": "FrameVOILUTSequence",
    "PixelSpacing": "PixelMeasuresSequence",
}


def _modality(stored: np.ndarray, header: Dataset, frame: int) -> tuple[np.ndarray, float]:
    """Return modality values and the slope that they were made with; a missing slope is 1, an intercept 0."""
    from pydicom.pixels import apply_modality_lut

    if header.get("ModalityLUTSequence"):
        return apply_modality_lut(stored, header), 1.0
    own = holder(header, frame, "RescaleSlope", "RescaleIntercept")
    slope, intercept = (
        float(default if own.get(keyword) is None else own[keyword].value)
        for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise UnreadableImageError(f"has the rescale slope {slope:g} and the intercept {intercept:g}")
    return (stored, slope) if (slope, intercept) == (1.0, 0.0) else (stored * slope + intercept, slope)


def _own_window(
    stored: np.ndarray, values: np.ndarray, slope: float, header: Dataset, frame: int
) -> Float[np.ndarray, "H W"] | None:
    """Apply the file's VOI LUT, else its first window; None if it has neither.

    Some write the window in stored values. With a small slope it shows: all values look alike through it, and
    the stored ones do not. In PET alone that is normal, where an empty slice has a small slope of its own.
    """
    from pydicom.pixels import apply_voi

    tables = holder(header, frame, "VOILUTSequence")
    if tables.get("VOILUTSequence"):
        top = 2 ** int(tables.VOILUTSequence[0].LUTDescriptor[2]) - 1
        return apply_voi(values, tables).astype(np.float64) / top
    own = holder(header, frame, "WindowCenter")
    if own.get("WindowCenter") is None or own.get("WindowWidth") is None:
        return None
    function = str(own.get("VOILUTFunction") or "LINEAR").replace(" ", "_")
    try:
        center, width = _first(own.WindowCenter), _first(own.WindowWidth)
        in_stored = Window(center, width, "LINEAR_EXACT" if function == "LINEAR" else function)
        if abs(slope) <= _SMALL_SLOPE and header.get("Modality") != "PT":
            raw = in_stored.apply(stored)
            if np.ptp(raw) > 1 / 4 and np.ptp(in_stored.apply(values)) < 1 / 16:
                return raw
        return Window(center, width, function).apply(values)
    except (ValueError, TypeError, IndexError) as error:
        raise UnreadableImageError(f"has a window that is none ({reason(error)}); set data.window") from None


def _padding(stored: np.ndarray, header: Dataset) -> Bool[np.ndarray, "H W"]:
    """Return the pixels outside what the scanner saw (PS3.3, C.7.5.1.1.2).

    Values of the other sign are the same bits: 63536 is -2000 in signed pixels.
    """
    value = header.get("PixelPaddingValue")
    outside = np.zeros(stored.shape, bool)
    if value is None or np.issubdtype(stored.dtype, np.floating):
        return outside
    limit = header.get("PixelPaddingRangeLimit")
    given = np.array([int(value), int(value if limit is None else limit)])
    readings = [given.astype(stored.dtype)]
    if np.issubdtype(stored.dtype, np.signedinteger):  # or the bits that are stored, as 2096 is -2000 in 12
        half = 1 << (int(header.BitsStored) - 1)
        readings.append((given + half) % (2 * half) - half)
    for ends in readings:
        outside |= (stored >= ends.min()) & (stored <= ends.max())
    return outside if not outside.all() else np.zeros(stored.shape, bool)


def _first(value: Any) -> float:
    """Return the first of several windows; numbers are DICOM decimal strings, one or many."""
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)
