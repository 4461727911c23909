"""How alike two images look: a perceptual hash to find candidates, a correlation to judge them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ttl_jax.typing import Bool, Float, Int, UInt8

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 32  # pixels of a thumbnail, as in Zauner's pHash
HASH_SIDE = 8  # low frequencies kept a side
# Bits of 63 that may differ. On HAM10000, whose lesion ids tell, 97 % of the 128 pairs within 6 bits
# and a correlation of 0.97 are of one lesion; at 8 bits 92 %, at a correlation of 0.93 59 %.
MOST_BITS = 6
_FLAT = 1.0  # gray levels; below this deviation a thumbnail shows nothing that could be compared
_BLOCK = 2048


@dataclass(frozen=True)
class Pairs:
    """Pairs of images that look alike.

    Attributes:
        first: (P,) positions.
        second: (P,) positions, each above `first`.
        likeness: (P,) correlation of the two thumbnails, 1.0 for equal ones.
    """

    first: Int[np.ndarray, " P"]
    second: Int[np.ndarray, " P"]
    likeness: Float[np.ndarray, " P"]


def thumbnail(image: Image) -> UInt8[np.ndarray, "32 32"]:
    """An image's gray thumbnail: squashed, so that it does not depend on the size trained on."""
    from PIL import Image as pil

    return np.asarray(image.convert("L").resize((SIDE, SIDE), pil.Resampling.BILINEAR))


def hash_bits(thumbnails: UInt8[np.ndarray, "N 32 32"]) -> Bool[np.ndarray, "N 63"]:
    """The DCT hash of each thumbnail (pHash; Zauner 2010, section 3.2.1).

    The 8 x 8 lowest frequencies without the constant one, each above the median or not: brightness
    and contrast do not matter.
    """
    from scipy.fft import dctn

    waves = dctn(thumbnails.astype(np.float32), axes=(1, 2), norm="ortho")
    low = waves[:, :HASH_SIDE, :HASH_SIDE].reshape(len(thumbnails), -1)[:, 1:]
    return low > np.median(low, axis=1, keepdims=True)


def near_pairs(
    thumbnails: UInt8[np.ndarray, "N 32 32"], likeness: float, most_bits: int = MOST_BITS
) -> Pairs:
    """All pairs whose hashes differ in few bits and whose thumbnails correlate.

    Equal thumbnails are compared once: each copy is paired with the first of its kind, so that a
    thousand copies are 999 pairs. A flat thumbnail shows nothing, and is like none.

    Args:
        thumbnails: of `thumbnail`.
        likeness: least correlation over the pixels, -1 to 1.
        most_bits: bits of 63 that may differ.
    """
    count = len(thumbnails)
    flat = thumbnails.reshape(count, -1)
    _, first_of_kind, kind = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    keeper = first_of_kind[kind.reshape(-1)]
    shows = flat.std(axis=1) >= _FLAT
    copies = np.flatnonzero((keeper != np.arange(count)) & shows)
    firsts, seconds, alike = [keeper[copies]], [copies], [np.ones(len(copies))]

    shown = np.sort(first_of_kind)
    shown = shown[shows[shown]]
    centred = flat[shown].astype(np.float32)
    centred -= centred.mean(axis=1, keepdims=True)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    # Bits as -1 and 1: a product of two hashes is 63 - 2 * (bits that differ).
    signs = np.where(hash_bits(thumbnails[shown]), 1.0, -1.0).astype(np.float32)
    least = signs.shape[1] - 2 * most_bits
    for start in range(0, len(shown), _BLOCK):
        agreement = signs[start : start + _BLOCK] @ signs[start:].T
        row, column = np.nonzero(agreement >= least)
        later = column > row
        row, column = row[later] + start, column[later] + start
        for piece in range(0, len(row), 100_000):  # bounds the memory of the gathered thumbnails
            one, other = row[piece : piece + 100_000], column[piece : piece + 100_000]
            correlation = np.einsum("pk,pk->p", centred[one], centred[other])
            near = correlation >= likeness
            firsts.append(shown[one[near]])
            seconds.append(shown[other[near]])
            alike.append(correlation[near].astype(np.float64))
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    order = np.lexsort((second, first))
    return Pairs(first[order], second[order], np.minimum(np.concatenate(alike), 1.0)[order])
