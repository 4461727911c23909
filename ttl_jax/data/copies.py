"""Copies of an image within a data set, and the groups that hold them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ttl_jax.data.fingerprint import Pairs, near_pairs
from ttl_jax.typing import Bool, Float, Int, UInt8

MODES = ("near", "exact", "ignore")


@dataclass(frozen=True)
class Copies:
    """Pairs of images that are copies of each other.

    Attributes:
        first: (P,) positions.
        second: (P,) positions, each above `first`.
        likeness: (P,) correlation of thumbnails.
        same_pixels: (P,) whether the decoded pixels are equal at the size trained on.
    """

    first: Int[np.ndarray, " P"]
    second: Int[np.ndarray, " P"]
    likeness: Float[np.ndarray, " P"]
    same_pixels: Bool[np.ndarray, " P"]

    def __len__(self) -> int:
        return len(self.first)


def find_copies(
    hashes: Sequence[bytes],
    thumbnails: UInt8[np.ndarray, "N 32 32"],
    mode: str,
    likeness: float,
) -> Copies:
    """Finds the pairs that count as copies.

    Args:
        hashes: (N,) digests of the decoded pixels; an empty one equals none.
        thumbnails: of `fingerprint.thumbnail`; read for "near" only.
        mode: "near" (same pixels, or alike), "exact" (same pixels) or "ignore" (none).
        likeness: least correlation of two thumbnails for "near".
    """
    exact = _equal_pairs(hashes) if mode != "ignore" else set()
    found = {pair: 1.0 for pair in exact}
    if mode == "near":
        near: Pairs = near_pairs(thumbnails, likeness)
        for one, other, value in zip(
            near.first.tolist(), near.second.tolist(), near.likeness.tolist(), strict=True
        ):
            found.setdefault((one, other), value)
    pairs = sorted(found)
    return Copies(
        first=np.array([one for one, _ in pairs], np.int64),
        second=np.array([other for _, other in pairs], np.int64),
        likeness=np.array([found[pair] for pair in pairs], np.float64),
        same_pixels=np.array([hashes[one] == hashes[other] != b"" for one, other in pairs], bool),
    )


def _equal_pairs(hashes: Sequence[bytes]) -> set[tuple[int, int]]:
    """Each copy with the first of its kind."""
    first: dict[bytes, int] = {}
    pairs = set()
    for place, digest in enumerate(hashes):
        if digest and first.setdefault(digest, place) != place:
            pairs.add((first[digest], place))
    return pairs


def clusters(
    count: int, first: Int[np.ndarray, " P"], second: Int[np.ndarray, " P"]
) -> Int[np.ndarray, " N"]:
    """The connected component of each of `count` items, numbered by its first member."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    links = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(count, count))
    return connected_components(links, directed=False)[1]


def merge_groups(groups: np.ndarray, copies: Copies) -> np.ndarray:
    """The groups with those joined that share a copy, as one patient's lesions or slices would be.

    Args:
        groups: (N,) names.
        copies: between the N images.

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
