"""Copies of an image within a data set, and the groups that hold them together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from zipfile import BadZipFile

import numpy as np

from ttl_jax.data.progress_lines import progress_lines
from ttl_jax.data.splits.altered import altered_pairs
from ttl_jax.data.splits.fingerprint import Pairs, near_pairs
from ttl_jax.system.folders import user_cache
from ttl_jax.system.whole_file import whole_file
from ttl_jax.typing import Bool, Float, Int, UInt8

# What counts as a copy, and what a report says of it (docs/leaks.md).
MODES = {
    "altered": "Copies were looked for by their pixels, their likeness (saved again, another size or "
    "contrast, mirrored, turned by a quarter) and once aligned (shifted, cropped, turned by a few "
    "degrees, marked, padded).",
    "near": "Copies were looked for by their pixels and their likeness (saved again, another size or "
    "contrast, mirrored, turned by a quarter), not shifted, cropped or marked ones.",
    "exact": "Copies were looked for by their pixels alone, not changed ones.",
    "ignore": "Copies of images were not looked for.",
}
_RULE = "1"  # of `altered_pairs`: another one finds other pairs, and those kept are not for it


@dataclass(frozen=True)
class Copies:
    """Pairs of images that are copies of each other.

    Attributes:
        first: Position of one image of each pair, (P,).
        second: Position of the other image, (P,), above `first`.
        likeness: Correlation of the thumbnails, (P,); for altered copies, of their aligned detail.
        same_pixels: True if the decoded pixels are equal at the training size, (P,).
        altered: True if the thumbnails differ but the detail agrees once aligned, (P,).
    """

    first: Int[np.ndarray, " P"]
    second: Int[np.ndarray, " P"]
    likeness: Float[np.ndarray, " P"]
    same_pixels: Bool[np.ndarray, " P"]
    altered: Bool[np.ndarray, " P"]

    def __len__(self) -> int:
        return len(self.first)


def find_copies(
    hashes: Sequence[bytes],
    thumbnails: UInt8[np.ndarray, "N 32 32"],
    contents: UInt8[np.ndarray, "N 64 64"],
    mode: str,
    likeness: float,
) -> Copies:
    """Find the pairs of images that count as copies.

    Args:
        hashes: Digests of the decoded pixels, (N,). An empty one equals no other.
        thumbnails: Thumbnails of `fingerprint.thumbnail`; used for "altered" and "near" only.
        contents: Gray squares of `altered.content`; used for "altered" only.
        mode: "altered" (same pixels, alike, or alike once aligned), "near" (same pixels, or alike), "exact"
            (same pixels) or "ignore" (none).
        likeness: Lowest correlation at which two thumbnails count as alike.
    """
    exact = _equal_pairs(hashes) if mode != "ignore" else set()
    likeness_of = {pair: 1.0 for pair in exact}
    if mode in ("altered", "near"):
        _add(likeness_of, near_pairs(thumbnails, likeness))
    # Pairs known so far need no alignment, so only later ones count as altered.
    plain = set(likeness_of)
    if mode == "altered":
        _add(likeness_of, _kept_altered_pairs(contents))
    pairs = sorted(likeness_of)
    return Copies(
        first=np.array([one for one, _ in pairs], np.int64),
        second=np.array([other for _, other in pairs], np.int64),
        likeness=np.array([likeness_of[pair] for pair in pairs], np.float64),
        same_pixels=np.array([hashes[one] == hashes[other] != b"" for one, other in pairs], bool),
        altered=np.array([pair not in plain for pair in pairs], bool),
    )


def _add(found: dict[tuple[int, int], float], pairs: Pairs) -> None:
    for one, other, value in zip(
        pairs.first.tolist(), pairs.second.tolist(), pairs.likeness.tolist(), strict=True
    ):
        found.setdefault((one, other), value)


def _kept_altered_pairs(contents: UInt8[np.ndarray, "N 64 64"]) -> Pairs:
    """Return `altered_pairs`, cached on disk by content because every run on a data set needs them.

    They are kept beside the compiled programs, in ~/.cache/ttl_jax or the folder that TTL_JAX_CACHE names.
    """
    digest = hashlib.blake2b(contents.tobytes(), digest_size=16, key=_RULE.encode()).hexdigest()
    path = user_cache() / "copies" / f"{digest}.npz"
    try:
        with np.load(path) as kept:
            return Pairs(kept["first"], kept["second"], kept["likeness"])
    except (OSError, EOFError, ValueError, KeyError, BadZipFile):  # none yet, or a broken one
        pass
    pairs = altered_pairs(contents, progress_lines("compared"))
    with suppress(OSError), whole_file(path) as beside:  # a folder that is full or another's keeps nothing
        np.savez(beside, first=pairs.first, second=pairs.second, likeness=pairs.likeness)
    return pairs


def _equal_pairs(hashes: Sequence[bytes]) -> set[tuple[int, int]]:
    """Pair each copy with the first of its kind."""
    first: dict[bytes, int] = {}
    pairs = set()
    for place, digest in enumerate(hashes):
        if digest and first.setdefault(digest, place) != place:
            pairs.add((first[digest], place))
    return pairs


def clusters(
    count: int, first: Int[np.ndarray, " P"], second: Int[np.ndarray, " P"]
) -> Int[np.ndarray, " N"]:
    """Return the connected component of each of `count` items, numbered by its first member."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    links = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(count, count))
    return connected_components(links, directed=False)[1]


def merge_groups(groups: np.ndarray, copies: Copies) -> np.ndarray:
    """Join the groups that share a copy, as one patient's lesions or slices would be.

    Args:
        groups: Group names, (N,).
        copies: Copies among the N images.

    Returns:
        (N,) names; a joined group goes by the first of its names in the alphabet, so that groups
        without copies keep their names and their place in a split.
    """
    if not len(copies):
        return groups
    names, number = np.unique(groups, return_inverse=True)
    joined = clusters(len(names), number[copies.first], number[copies.second])
    # names are sorted: the first occurrence of a component is its alphabetically first name
    _, leader = np.unique(joined, return_index=True)
    return names[leader[joined]][number]
