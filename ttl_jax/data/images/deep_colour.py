"""Colour of fewer bits than its file stores: 12-bit values in a 16-bit PNG or TIFF.

PIL keeps the upper byte of 16-bit colour, which is all but zero there: the image would be black.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import numpy as np

from ttl_jax.typing import Shaped, UInt8

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

_BITS = (8, 10, 12)  # of cameras and digitisers; 14 would also be a dark image of 16
# PIL's names of 16-bit orders, and of those that take the lower byte for the upper one.
_LOWER = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B"}


def stored_as(opened: ImageFile) -> str:
    """Return PIL's name of how a file that is not loaded stores its colour, as "RGB;16B"; "" for others."""
    arguments = opened.tile[0].args if opened.tile else ""
    name = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return name if isinstance(name, str) and name[-4:] in _LOWER and not name.startswith("I;") else ""


def full_range(file: IO[bytes], high: ImageFile, stored: str) -> Image:
    """Return an image of 16-bit colour, spread over 0..255 where its values have 12 bits or fewer.

    Args:
        file: The encoded image.
        high: The decoded image: the upper bytes.
        stored: Output of `stored_as`.
    """
    from PIL import Image

    upper = np.asarray(high)
    if high.mode not in ("RGB", "RGBA") or upper[..., :3].max() >= 1 << (_BITS[-1] - 8):
        return high
    if stored.startswith("LA"):  # gray and alpha: its four bytes a pixel are those of 8-bit RGBA
        both = np.asarray(_reopened(file, high, "RGBA")).astype(np.uint16)
        values = (both[..., ::2] << 8 | both[..., 1::2])[..., [0, 0, 0, 1]]
    else:
        lower = np.asarray(_reopened(file, high, stored[:-4] + _LOWER[stored[-4:]]))
        values = upper.astype(np.uint16) << 8 | lower
    parts = [eight_bits(values[..., :3]), eight_bits(values[..., 3:])]
    return Image.fromarray(np.concatenate(parts, axis=-1))


def _reopened(file: IO[bytes], high: ImageFile, name: str) -> Image:
    """Decode the file again, its bytes taken as PIL's `name` says."""
    file.seek(0)
    opened = type(high)(file, "")
    opened.tile = [
        each._replace(args=(name, *each.args[1:]) if isinstance(each.args, tuple) else name)
        for each in opened.tile
    ]
    opened.load()
    return opened


def eight_bits(values: Shaped[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "H W C"]:
    """Scale values of up to 16 bits by the fewest of 8, 10, 12 and 16 bits that hold them."""
    bits = next((each for each in _BITS if not values.size or values.max() < 1 << each), 16)
    scale = np.rint(np.arange(1 << bits) * (255 / ((1 << bits) - 1))).astype(np.uint8)
    return scale[values]
