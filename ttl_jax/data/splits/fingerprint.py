"""Visual similarity of two images: a perceptual hash finds candidates, a correlation judges them.

Copies may be mirrored or turned by quarters, as augmentation leaves them: each pair is compared in the
eight orientations of the square and counts by the best. (One canonical orientation for each image would
be cheaper, but noise in one bit of its hash would choose another one.)
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ttl_jax.typing import Bool, Float, Int, UInt8

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 32  # pixels of a thumbnail, as in Zauner's pHash
HASH_SIDE = 8  # low frequencies kept a side
WAVES = 12  # of a fingerprint: with 8 twice as many slices of other patients' heads are alike, 16 show more
# Bits of 63 that may differ. On HAM10000, whose lesion ids tell, 97 % of the 128 pairs within 6 bits
# and a correlation of 0.97 are of one lesion; at 8 bits 92 %, at a correlation of 0.93 59 %.
MOST_BITS = 6
_FLAT = 1.0  # gray levels; below this deviation a thumbnail shows nothing that could be compared
_BLOCK = 2048
# (transposed, mirrored down, mirrored across), in this order: the symmetries of the square, itself first.
ORIENTATIONS = tuple(itertools.product((False, True), repeat=3))


@dataclass(frozen=True)
class Pairs:
    """Pairs of images that look alike.

    Attributes:
        first: Position of one image of each pair, (P,).
        second: Position of the other image, (P,), above `first`.
        likeness: Correlation of the two thumbnails in the orientation where it is highest, (P,); 1.0 for
            equal ones.
    """

    first: Int[np.ndarray, " P"]
    second: Int[np.ndarray, " P"]
    likeness: Float[np.ndarray, " P"]


def thumbnail(image: Image) -> UInt8[np.ndarray, "32 32"]:
    """Return an image's gray thumbnail: squashed, so that it does not depend on the size trained on."""
    from PIL import Image as pil

    return np.asarray(image.convert("L").resize((SIDE, SIDE), pil.Resampling.BILINEAR))


def orient(squares: np.ndarray, orientation: tuple[bool, ...]) -> np.ndarray:
    """Return squares (N, S, S) in one of ORIENTATIONS."""
    transposed, down, across = orientation
    turned = squares.swapaxes(1, 2) if transposed else squares
    return turned[:, :: -1 if down else 1, :: -1 if across else 1]


def hash_bits(thumbnails: UInt8[np.ndarray, "N 32 32"]) -> Bool[np.ndarray, "N 63"]:
    """Return the DCT hash of each thumbnail (pHash; Zauner 2010, section 3.2.1).

    The 8 x 8 lowest frequencies without the constant one, each above the median or not: brightness
    and contrast do not matter.
    """
    return _bits(_low(thumbnails))


def _low(thumbnails: UInt8[np.ndarray, "N 32 32"], side: int = HASH_SIDE) -> Float[np.ndarray, "N S S"]:
    from scipy.fft import dctn

    return dctn(thumbnails.astype(np.float32), axes=(1, 2), norm="ortho")[:, :side, :side]


def _bits(low: Float[np.ndarray, "N S S"]) -> Bool[np.ndarray, "N 63"]:
    waves = low[:, :HASH_SIDE, :HASH_SIDE].reshape(len(low), -1)[:, 1:]
    return waves > np.median(waves, axis=1, keepdims=True)


def _orient_low(low: Float[np.ndarray, "N S S"], orientation: tuple[bool, ...]) -> np.ndarray:
    """Return frequencies of `orient`ed thumbnails: a mirror flips the sign of the odd ones along its axis."""
    transposed, down, across = orientation
    odd = np.where(np.arange(low.shape[1]) % 2, -1, 1).astype(low.dtype)
    turned = low.swapaxes(1, 2) if transposed else low
    return turned * (odd[:, None] if down else 1) * (odd if across else 1)


def pixel_hash(image: UInt8[np.ndarray, "... S S 3"]) -> bytes:
    """A digest of decoded pixels, 16 bytes; none for one colour throughout, which is a copy of nothing."""
    if (image == image.reshape(-1, image.shape[-1])[0]).all():
        return b""
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def low_frequencies(thumbnails: UInt8[np.ndarray, "N 32 32"]) -> Float[np.ndarray, "N 143"]:
    """Return the longest waves of each thumbnail, at length 1; 0 for a flat one.

    The product of two is the correlation of the thumbnails without their detail. A picture of 12 x 12 pixels
    could be made of them, and no more.
    """
    waves = _low(thumbnails, WAVES).reshape(len(thumbnails), -1)[:, 1:]
    waves = waves / np.maximum(np.linalg.norm(waves, axis=1, keepdims=True), 1e-6)
    return waves * (thumbnails.reshape(len(thumbnails), -1).std(axis=1) >= _FLAT)[:, None]


def alike(known: Float[np.ndarray, "N 143"], asked: Float[np.ndarray, "M 143"], likeness: float) -> Pairs:
    """Return the pairs of a known and an asked image that `low_frequencies` tell alike, in any orientation.

    Args:
        known: Fingerprints of images at hand no more.
        asked: Those of other images.
        likeness: Lowest correlation of whole thumbnails, as for `near_pairs`; without their detail more are
            alike, and the limit lies halfway between it and 1.

    Returns:
        Pairs whose `first` are positions in `known` and `second` in `asked`.
    """
    square, likeness = _square(known), (1 + likeness) / 2
    signs, upright = _signs(_bits(square)), square.reshape(len(known), WAVES**2)
    firsts, seconds, likenesses = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    step = max(1, 4_000_000 // max(len(asked), 1))
    for orientation in ORIENTATIONS:
        turned = _orient_low(_square(asked), orientation)
        turned_signs, flat = _signs(_bits(turned)), turned.reshape(len(asked), WAVES**2)
        least = _turned_likeness(likeness) if any(orientation) else likeness
        for start in range(0, len(known), step):
            rows = slice(start, start + step)
            agreement, correlation = signs[rows] @ turned_signs.T, upright[rows] @ flat.T
            close = agreement >= signs.shape[1] - 2 * MOST_BITS
            first, second = np.nonzero(close & (correlation >= least))
            firsts.append(first + start)
            seconds.append(second)
            likenesses.append(correlation[first, second])
    return _best(np.concatenate(firsts), np.concatenate(seconds), np.concatenate(likenesses))


def _square(fingerprints: Float[np.ndarray, "N 143"]) -> Float[np.ndarray, "N 12 12"]:
    """Return fingerprints with the constant frequency that they lack, as 0."""
    whole = np.pad(np.asarray(fingerprints, np.float32), ((0, 0), (1, 0)))
    return whole.reshape(-1, WAVES, WAVES)


def near_pairs(
    thumbnails: UInt8[np.ndarray, "N 32 32"], likeness: float, most_bits: int = MOST_BITS
) -> Pairs:
    """Return all pairs whose hashes differ in few bits and whose thumbnails correlate, in any orientation.

    Equal thumbnails are compared once: each copy is paired with the first of its kind, so that a
    thousand copies are 999 pairs. A flat thumbnail shows nothing, and is like none.

    Args:
        thumbnails: Thumbnails of `thumbnail`, (N, 32, 32).
        likeness: Lowest correlation over the pixels, -1 to 1. For mirrored or turned pairs the limit lies
            halfway between it and 1.
        most_bits: Number of the hash's 63 bits that may differ.
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
    if not len(shown):  # all are flat
        return _best(np.concatenate(firsts), np.concatenate(seconds), np.concatenate(alike))
    squares = thumbnails[shown].astype(np.float32)
    squares -= squares.mean(axis=(1, 2), keepdims=True)
    squares /= np.linalg.norm(squares, axis=(1, 2), keepdims=True)
    low = _low(thumbnails[shown])
    upright, signs = squares.reshape(len(shown), SIDE * SIDE), _signs(_bits(low))
    for orientation in ORIENTATIONS:
        turned = np.ascontiguousarray(orient(squares, orientation)).reshape(upright.shape)
        turned_signs = _signs(_bits(_orient_low(low, orientation)))
        for one, other in _close(signs, turned_signs, most_bits):
            correlation = np.einsum("pk,pk->p", upright[one], turned[other])
            near = correlation >= (_turned_likeness(likeness) if any(orientation) else likeness)
            firsts.append(shown[one[near]])
            seconds.append(shown[other[near]])
            alike.append(correlation[near].astype(np.float64))
    return _best(np.concatenate(firsts), np.concatenate(seconds), np.concatenate(alike))


def _turned_likeness(likeness: float) -> float:
    """Return the limit for turned pairs, half as far from 1: eight comparisons find more chance matches.

    On HAM10000 six turned pairs lie between 0.97 and 0.98, and one of them is of one lesion; mirrored
    copies that were saved as JPEG again (LC25000) have 0.9998.
    """
    return (1 + likeness) / 2


def _signs(bits: Bool[np.ndarray, "N 63"]) -> Float[np.ndarray, "N 63"]:
    """Return bits as -1 and 1: a product of two hashes is 63 - 2 * (bits that differ)."""
    return np.where(bits, 1.0, -1.0).astype(np.float32)


def _close(
    one: Float[np.ndarray, "N 63"], other: Float[np.ndarray, "N 63"], most_bits: int
) -> Iterator[tuple[Int[np.ndarray, " Q"], Int[np.ndarray, " Q"]]]:
    """(i, j) with i < j whose hashes differ in `most_bits` at most, a memory-bounded piece at a time."""
    least = one.shape[1] - 2 * most_bits
    for start in range(0, len(one), _BLOCK):
        agreement = one[start : start + _BLOCK] @ other[start:].T
        row, column = np.nonzero(agreement >= least)
        later = column > row
        row, column = row[later] + start, column[later] + start
        for piece in range(0, len(row), 100_000):
            yield row[piece : piece + 100_000], column[piece : piece + 100_000]


def _best(first: np.ndarray, second: np.ndarray, likeness: np.ndarray) -> Pairs:
    """Keep each pair once, with the likeness of its best orientation, in the order of positions."""
    order = np.lexsort((-likeness, second, first))
    first, second, likeness = first[order], second[order], likeness[order]
    fresh = np.ones(len(first), bool)
    fresh[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return Pairs(first[fresh], second[fresh], np.minimum(likeness[fresh], 1.0))
