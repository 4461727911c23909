"""Which group goes to which split: stratified, whole groups, the same on every machine.

Groups are ordered by a hash of (seed, group), so neither the order of the files nor a group added
later moves the others' places in that order, and no library's random numbers are involved.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from ttl_jax.data.iterative import deal, known_counts
from ttl_jax.errors import UserError


@dataclass(frozen=True)
class Group:
    """A group as one piece.

    Attributes:
        name: its name.
        members: positions of its images.
        stratum: the rarest class among them (several labels: the rarest one present, -1 for none).
    """

    name: str
    members: tuple[int, ...]
    stratum: int


def hold_out(labels: np.ndarray, groups: np.ndarray, fractions: dict[str, float], seed: int) -> np.ndarray:
    """Gives every image a split; what no fraction asks for is "train".

    One class an image: in each stratum, groups in hashed order fill "test", then "val", as long as
    that brings the stratum's image count nearer to its share; a stratum of three groups or more has
    one at least in every split. Several labels: iterative stratification.

    Args:
        labels: int (N,) or float (N, L) with NaN = unknown.
        groups: (N,) text.
        fractions: held-out split -> share of the images.
        seed: which of the possible splits.

    Returns:
        (N,) "train" or a key of `fractions`.
    """
    assigned = np.full(len(groups), "train", dtype="U5")
    found = collect(labels, groups)
    if labels.ndim == 2:
        members = [group.members for group in found]
        sizes = np.array([len(positions) for positions in members])
        names = ("train", *fractions)
        shares = (1 - sum(fractions.values()), *fractions.values())
        part = deal(known_counts(labels, members), sizes, shares, lambda at: turn(seed, found[at].name))
        for positions, number in zip(members, part.tolist(), strict=True):
            assigned[list(positions)] = names[number]
        return assigned
    strata: dict[int, list[Group]] = defaultdict(list)
    for group in found:
        strata[group.stratum].append(group)
    owed = dict.fromkeys(fractions, 0.0)
    for stratum in sorted(strata):
        ordered = sorted(strata[stratum], key=lambda group: turn(seed, group.name))
        total = sum(len(group.members) for group in ordered)
        wanted = {name: share * total + owed[name] for name, share in fractions.items()}
        for name, chosen in _share(ordered, wanted).items():
            for group in chosen:
                assigned[list(group.members)] = name
            got = sum(len(group.members) for group in chosen)
            # What rounding left over is made up for by the next stratum, half an image at most:
            # ten classes of ten images must not all round 1.5 up to 2.
            owed[name] = float(np.clip(wanted[name] - got, -0.5, 0.5))
    return assigned


def _share(ordered: list[Group], wanted: dict[str, float]) -> dict[str, list[Group]]:
    """One stratum's held-out groups, split by split; `wanted` are numbers of images."""
    held: dict[str, list[Group]] = {name: [] for name in wanted}
    count = dict.fromkeys(wanted, 0)
    train: list[Group] = []
    for group in ordered:
        size = len(group.members)
        for name, images in wanted.items():
            if count[name] + size / 2 <= images + 1e-9:
                held[name].append(group)
                count[name] += size
                break
        else:
            train.append(group)
    for name in wanted:
        if not held[name] and len(train) > 1:
            smallest = min(train, key=lambda group: len(group.members))
            train.remove(smallest)
            held[name].append(smallest)
    return held


def limit(labels: np.ndarray, groups: np.ndarray, images: int, seed: int) -> np.ndarray:
    """Picks whole groups of about `images` images, with the classes' shares kept.

    One order of the groups is cut at `images`, so a smaller limit's choice lies within a larger
    one's. The order deals the strata out evenly; one group of each stratum leads it.

    Returns:
        sorted positions of the images chosen.

    Raises:
        UserError: too few for one image of each class.
    """
    strata: dict[int, list[Group]] = defaultdict(list)
    for group in collect(labels, groups):
        strata[group.stratum].append(group)
    if images < len(strata):
        raise UserError(
            f"data.train_limit={images} is less than one image for each of {len(strata)} classes; "
            "raise it, or set it to 0 for no limit"
        )
    places: list[tuple[float, bytes, Group]] = []
    for members in strata.values():
        ordered = sorted(members, key=lambda group: turn(seed, group.name))
        total, before = sum(len(group.members) for group in ordered), 0
        for group in ordered:
            middle = (before + len(group.members) / 2) / total
            places.append((middle if before else -1.0, turn(seed, group.name), group))
            before += len(group.members)
    places.sort(key=lambda place: place[:2])
    chosen: list[int] = []
    for middle, _, group in places:
        if middle >= 0 and len(chosen) + len(group.members) > images:
            break
        chosen += group.members
    return np.array(sorted(chosen))


def collect(labels: np.ndarray, groups: np.ndarray) -> list[Group]:
    """The groups, each with its stratum, in the order of their names."""
    present = np.nan_to_num(labels) > 0 if labels.ndim == 2 else None
    counts = present.sum(axis=0) if present is not None else np.bincount(labels)
    names, number = np.unique(groups, return_inverse=True)
    order = np.argsort(number, kind="stable")
    pieces = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
    found = []
    for name, piece in zip(names.tolist(), pieces, strict=True):
        if present is not None:
            classes = np.flatnonzero(present[piece].any(axis=0)).tolist()
        else:
            classes = sorted(set(labels[piece].tolist()))
        stratum = min(classes, key=lambda item: (counts[item], item)) if classes else -1
        found.append(Group(name, tuple(piece.tolist()), stratum))
    return found


def straddling(groups: np.ndarray, splits: np.ndarray) -> dict[str, tuple[str, ...]]:
    """Groups that stand in several splits, with those splits."""
    pairs = np.unique(np.stack([groups.astype(str), splits.astype(str)], axis=1), axis=0)
    seen: dict[str, list[str]] = defaultdict(list)
    for group, split in pairs.tolist():
        seen[group].append(split)
    return {group: tuple(names) for group, names in seen.items() if len(names) > 1}


def turn(seed: int, group: str) -> bytes:
    """A group's place in the order of a seed: 16 bytes of a hash."""
    return hashlib.blake2b(f"{seed}/{group}".encode(), digest_size=16).digest()
