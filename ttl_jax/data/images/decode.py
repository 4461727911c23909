"""One image, from a file or an array, to RGB uint8 at the size of the network.

Nothing of an image is guessed in silence: orientation, palette, alpha and 16 bits are honoured, and
an image with several frames or with NaN is refused.
"""

from __future__ import annotations

import io
import stat
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

import numpy as np

from ttl_jax.data.images.deep_colour import full_range, stored_as
from ttl_jax.data.images.limits import UnreadableImageError as UnreadableImageError
from ttl_jax.data.images.limits import check_opened, ends_early
from ttl_jax.typing import UInt8

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

ENDINGS = (
    ".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".ppm", ".pgm",
    ".pbm", ".jp2",
)  # fmt: skip
# Others stay shut: PIL hands PostScript under a wrong ending to Ghostscript.
_AT_ONCE = 1 << 22  # pixels
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_WHITE_IS_ZERO = ((b"MM", 16, "I;16B", "I;16B"), (b"II", 12, "I;16", "I;12"))  # which PIL does not know
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM", "JPEG2000")


class Picture(Protocol):
    """One image that is not a file of its own: a frame, a slice, a record."""

    def read(self) -> Image:
        """The whole image, upright, as "L", "RGB" or, with transparent pixels, "RGBA".

        Raises:
            UnreadableImageError: missing, damaged or empty.
        """


@dataclass(frozen=True, eq=False)
class Encoded:
    """The content of an image file as a Picture."""

    content: bytes

    def read(self) -> Image:
        """See `Picture`."""
        return read_stream(io.BytesIO(self.content))


@dataclass(frozen=True, eq=False)
class Stack:
    """A volume.

    Attributes:
        slices: Pictures or uint8 (H, W), in spatial order.
        millimetres: Distance between slices, rows and columns; None if unknown.
    """

    slices: tuple[Picture | np.ndarray, ...]
    millimetres: tuple[float, float, float] | None = None


ImageSource = Path | np.ndarray | Picture | Stack


@dataclass(frozen=True)
class Geometry:
    """Target size of images and the way to reach it.

    Attributes:
        size: Pixels per side.
        resize: "squash" scales both sides to `size`; "crop" scales the short side and cuts out the middle;
            "pad" scales the long side and fills up with `pad_value`.
        pad_value: Gray level 0..255 of the padding and of transparent pixels.
        depth: Slices per volume; 0 for flat images.
    """

    size: int
    resize: str = "squash"
    pad_value: int = 0
    depth: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """(S, S, 3), or (D, S, S, 3) for volumes."""
        return (*([self.depth] if self.depth else []), self.size, self.size, 3)


def decode(source: ImageSource, geometry: Geometry) -> UInt8[np.ndarray, "... S S 3"]:
    """Read one image, or the volume of a Stack, as uint8 `geometry.shape`.

    The EXIF orientation is applied; transparent pixels show `pad_value`; 16-bit, 32-bit and float
    images are stretched from their own minimum and maximum to 0..255 (a radiograph may use any 12
    of 16 bits, and the usual division by 256 would leave it black). Colour profiles are ignored.
    Scaling is bilinear with antialiasing, between the slices of a volume too.

    Args:
        source: A file, uint8 (H, W), (H, W, 1) or (H, W, 3), or a Picture. A Stack if and only if `geometry`
            has a depth.
        geometry: Target size and resize mode.

    Raises:
        UnreadableImageError: missing, damaged, empty, animated, or with NaN.
    """
    return decode_shown(source, geometry)[0]


def decode_shown(source: ImageSource, geometry: Geometry) -> tuple[UInt8[np.ndarray, "... S S 3"], Image]:
    """Do as `decode`; also return the image that stands for it: `upright`, or a volume's middle slice."""
    if isinstance(source, Stack):
        return _volume(source, geometry)
    image = upright(source, geometry)
    return fit(image, geometry), image


def upright(source: Path | np.ndarray | Picture, geometry: Geometry) -> Image:
    """A flat image at its own size, "L" or "RGB", before `fit`; raises as `decode`."""
    return _opaque(whole(source), geometry.pad_value)


def fit(image: Image, geometry: Geometry) -> UInt8[np.ndarray, "S S 3"]:
    """An image of `upright` at the size wanted; raises as `decode`."""
    return np.asarray(_fit(image, geometry).convert("RGB"))


def _volume(stack: Stack, geometry: Geometry) -> tuple[UInt8[np.ndarray, "D S S 3"], Image]:
    from PIL import Image

    flat = replace(geometry, depth=0)
    slices = np.empty((len(stack.slices), *flat.shape), np.uint8)
    for number, picture in enumerate(stack.slices):
        image = upright(picture, flat)
        slices[number] = fit(image, flat)
        if number == len(stack.slices) // 2:
            middle = image
    # Each slice as a row: the rows are scaled as PIL scales an image's height.
    rows = Image.fromarray(slices.reshape(len(slices), -1))
    scaled = rows.resize((rows.width, geometry.depth), Image.Resampling.BILINEAR)
    return np.asarray(scaled).reshape(geometry.shape), middle


def whole(source: ImageSource) -> Image:
    """The image at its own size, as "L", "RGB" or, with transparent pixels, "RGBA".

    Raises:
        UnreadableImageError: as `decode`.
    """
    from PIL import Image

    if isinstance(source, np.ndarray):
        pixels = source[..., 0] if source.ndim == 3 and source.shape[-1] == 1 else source
        return Image.fromarray(np.ascontiguousarray(pixels))
    assert not isinstance(source, Stack)
    return read_file(source) if isinstance(source, Path) else source.read()


def read_file(path: Path) -> Image:
    """An image file's only frame, upright; see `whole`."""
    try:
        # A pipe or a device would be waited for without end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableImageError("is not a file")
        with path.open("rb") as file:
            return read_stream(file)
    except FileNotFoundError:
        raise UnreadableImageError("does not exist") from None
    except OSError as error:
        raise UnreadableImageError(f"cannot be read ({error.strerror or error})") from None


def read_stream(file: IO[bytes]) -> Image:
    """The only frame of the encoded image in `file`, upright; see `whole`.

    Raises:
        UnreadableImageError: as `decode`.
    """
    from PIL import Image, ImageOps

    try:
        opened = _open(file)
        # MPO, from phones: a photo with its own thumbnail behind it.
        frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)
        if frames > 1:
            raise UnreadableImageError(f"holds {frames} frames; save the one to be used")
        stored = stored_as(opened)
        opened.load()
        if ends_early(file, opened.format, opened):
            raise UnreadableImageError("ends early: its pixels stop before its last row")
        if stored:
            return plain(ImageOps.exif_transpose(full_range(file, opened, stored)))
        ImageOps.exif_transpose(opened, in_place=True)
        return plain(opened)
    except UnreadableImageError:
        raise
    except (Image.DecompressionBombError, MemoryError):
        raise UnreadableImageError("has too many pixels; cut it into tiles first") from None
    except Exception as error:  # damaged files make PIL's plugins raise nearly anything
        raise UnreadableImageError(f"cannot be decoded ({reason(error)})") from None


def reason(error: Exception) -> str:
    """Return the message of another library's exception on one printable line of at most 200 characters."""
    line = str(error).strip().partition("\n")[0][:200]
    printable = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
    return printable or type(error).__name__


def _open(file: IO[bytes]) -> ImageFile:
    """PIL's Image.open for the formats above, without its warning at half the size it refuses.

    Image.open can only be silenced through the process's warning filters, and those are not safe to
    change while other threads decode.
    """
    from PIL import Image, TiffImagePlugin

    Image.init()
    for order, bits, mode, stored in _WHITE_IS_ZERO:
        TiffImagePlugin.OPEN_INFO.setdefault((order, 0, (1,), 1, (bits,), ()), (mode, stored))
    prefix = file.read(16)
    for name in _FORMATS:
        make, accepts = Image.OPEN.get(name, (None, None))
        if make is None or accepts is None or accepts(prefix) is not True:
            continue
        file.seek(0)
        try:
            opened = make(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue
        width, height = opened.size
        check_opened(opened, file.seek(0, 2))
        if Image.MAX_IMAGE_PIXELS is not None and width * height > 2 * Image.MAX_IMAGE_PIXELS:
            raise UnreadableImageError("has too many pixels; cut it into tiles first")
        return opened
    file.seek(128)
    if file.read(4) == b"DICM":
        raise UnreadableImageError("is not an image that PIL can read but DICOM; set data.name=dicom")
    raise UnreadableImageError("is not an image that PIL can read")


def plain(image: Image) -> Image:
    """Convert any mode of PIL's to "L", "RGB" or "RGBA"; raises as `stretch`."""
    from PIL import ImageOps

    mode = image.mode
    if mode == "F" or mode.startswith("I"):
        values, tags = np.asarray(image), getattr(image, "tag_v2", {})
        if mode == "I" and tags.get(_BITS_PER_SAMPLE) == (32,) and tags.get(_SAMPLE_FORMAT, (1,)) == (1,):
            values = values.view(np.uint32)  # PIL takes them for signed
        stretched = stretch(values)
        # PIL inverts TIFF's WhiteIsZero in 8 bits alone.
        return ImageOps.invert(stretched) if tags.get(_PHOTOMETRIC) == 0 else stretched
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return image.convert("RGBA")
    wanted = "L" if mode in ("1", "L") else "RGB"
    return image if mode == wanted else image.convert(wanted)


def _opaque(image: Image, background: int) -> Image:
    """Replace transparent pixels by a gray."""
    from PIL import Image

    if image.mode != "RGBA":
        return image
    canvas = Image.new("RGBA", image.size, (background, background, background, 255))
    return Image.alpha_composite(canvas, image).convert("RGB")


def stretch(values: np.ndarray) -> Image:
    """Map numbers (H, W) from their minimum and maximum to 0 and 255; equal numbers give 0.

    Raises:
        UnreadableImageError: NaN or infinite.
    """
    from PIL import Image

    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):  # NaN is the minimum where there is one
        raise UnreadableImageError("has pixels that are NaN or infinite")
    stretched = np.empty(values.shape, np.uint8)
    rows = max(1, _AT_ONCE // values.shape[1])
    for start in range(0, len(values), rows):  # in float64, a part at a time
        part = values[start : start + rows].astype(np.float64)
        scaled = (part - low) * (255.0 / (high - low) if high > low else 0.0)
        stretched[start : start + rows] = np.rint(scaled)
    return Image.fromarray(stretched)


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
