"""One image, from a file or an array, to RGB uint8 at the size of the network.

Nothing of an image is guessed in silence: orientation, palette, alpha and 16 bits are honoured, and
an image with several frames or with NaN is refused.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ttl_jax.typing import UInt8

if TYPE_CHECKING:
    from PIL.Image import Image

RESIZE_MODES = ("squash", "crop", "pad")
ENDINGS = (
    ".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".ppm", ".pgm",
    ".pbm", ".jp2",
)  # fmt: skip


class UnreadableImageError(Exception):
    """Why an image cannot be used; the caller knows its file and row."""


@dataclass(frozen=True)
class Geometry:
    """How images are brought to one size.

    Attributes:
        size: pixels a side.
        resize: "squash" scales both sides to `size`; "crop" scales the short side and cuts the
            middle out; "pad" scales the long side and fills up with `pad_value`.
        pad_value: 0..255; also what shows through transparent pixels.
    """

    size: int
    resize: str = "squash"
    pad_value: int = 0


def decode(source: Path | np.ndarray, geometry: Geometry) -> UInt8[np.ndarray, "S S 3"]:
    """Reads one image.

    The EXIF orientation is applied; transparent pixels show `pad_value`; 16-bit, 32-bit and float
    images are stretched from their own minimum and maximum to 0..255 (a radiograph may use any 12
    of 16 bits, and the usual division by 256 would leave it black). Colour profiles are ignored.
    Scaling is bilinear with antialiasing.

    Args:
        source: a file, or uint8 (H, W), (H, W, 1) or (H, W, 3).
        geometry: the size wanted and how to get there.

    Raises:
        UnreadableImageError: missing, damaged, empty, animated, or with NaN.
    """
    return fit(upright(source, geometry), geometry)


def upright(source: Path | np.ndarray, geometry: Geometry) -> Image:
    """The image at its own size, "L" or "RGB", before `fit`; raises as `decode`."""
    from PIL import Image

    if isinstance(source, np.ndarray):
        pixels = source[..., 0] if source.ndim == 3 and source.shape[-1] == 1 else source
        return Image.fromarray(np.ascontiguousarray(pixels))
    return _open(source, geometry.pad_value)


def fit(image: Image, geometry: Geometry) -> UInt8[np.ndarray, "S S 3"]:
    """An upright image at the size wanted; raises as `decode`."""
    return np.asarray(_fit(image, geometry).convert("RGB"))


def _open(path: Path, background: int) -> Image:
    """The first frame, upright, as "L" or "RGB"."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # The error at twice that size is kept; a warning on a large slide helps nobody.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                # MPO, from phones: a photo with its own thumbnail behind it.
                frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)
                if frames > 1:
                    raise UnreadableImageError(f"holds {frames} frames; save the one to be used")
                opened.load()
                return _plain(ImageOps.exif_transpose(opened), background)
    except UnreadableImageError:
        raise
    except FileNotFoundError:
        raise UnreadableImageError("does not exist") from None
    except UnidentifiedImageError:
        raise UnreadableImageError("is not an image that PIL can read") from None
    except Image.DecompressionBombError:
        raise UnreadableImageError("has too many pixels; cut it into tiles first") from None
    except Exception as error:  # damaged files make PIL's plugins raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableImageError(f"cannot be decoded ({reason})") from None


def _plain(image: Image, background: int) -> Image:
    """Any mode of PIL's as "L" or "RGB"."""
    from PIL import Image

    mode = image.mode
    if mode == "F" or mode.startswith("I"):
        return _stretch(np.asarray(image))
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        opaque = image.convert("RGBA")
        canvas = Image.new("RGBA", opaque.size, (background, background, background, 255))
        return Image.alpha_composite(canvas, opaque).convert("RGB")
    return image.convert("L" if mode in ("1", "L") else "RGB")


def _stretch(values: np.ndarray) -> Image:
    from PIL import Image

    if not np.isfinite(values).all():
        raise UnreadableImageError("has pixels that are NaN or infinite")
    low, high = float(values.min()), float(values.max())
    scaled = (values.astype(np.float64) - low) * (255.0 / (high - low) if high > low else 0.0)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _fit(image: Image, geometry: Geometry) -> Image:
    from PIL import Image

    size, (width, height) = geometry.size, image.size
    if width == 0 or height == 0:
        raise UnreadableImageError("has no pixels")
    bilinear = Image.Resampling.BILINEAR
    if geometry.resize == "squash" or width == height:
        return image if image.size == (size, size) else image.resize((size, size), bilinear)
    if geometry.resize == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return image.resize((size, size), bilinear, box=(left, top, left + side, top + side))
    scale = size / max(width, height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = Image.new(image.mode, (size, size), (geometry.pad_value,) * len(image.getbands()))
    canvas.paste(image.resize(inner, bilinear), ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return canvas
