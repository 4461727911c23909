"""Assignment of groups to splits: stratified, whole groups, the same on every machine.

Chance is a hash of (seed, group): the order of the files does not matter, and no library's random numbers
are involved.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from ttl_jax.data.splits.balanced import draw
from ttl_jax.data.splits.multilabel import known_counts
from ttl_jax.errors import UserError


@dataclass(frozen=True)
class Group:
    """One group, which is never divided.

    Attributes:
        name: Name of the group.
        members: Positions of its images.
        stratum: Number of the rarest class among them. For several labels, the rarest one present; -1 for
            none.
    """

    name: str
    members: tuple[int, ...]
    stratum: int


def hold_out(labels: np.ndarray, groups: np.ndarray, fractions: dict[str, float], seed: int) -> np.ndarray:
    """Give every image a split; the images that no fraction asks for are "train".

    Every group has the same chance to be held out, whatever its size (`balanced.draw`). One class an
    image: each stratum is drawn from by itself. Several labels: all at once, and the share of each
    label's known positives and negatives is kept. Every class, positive and negative has a group in train;
    a stratum of three groups or more has one in every split, one of two in train and the first of
    `fractions`.

    Args:
        labels: Int class numbers (N,), or float (N, L) with NaN = unknown.
        groups: Group names, (N,).
        fractions: Held-out split -> share of the images.
        seed: Selects one of the possible splits.

    Returns:
        Split names (N,): "train" or a key of `fractions`.
    """
    all_groups = collect(labels, groups)
    members = [group.members for group in all_groups]
    sizes = np.array([len(positions) for positions in members])
    turns = [turn(seed, group.name) for group in all_groups]
    shown = known_counts(np.eye(labels.max() + 1)[labels] if labels.ndim == 1 else labels, members)
    stratum = np.array([group.stratum for group in all_groups])
    strata = [np.flatnonzero(stratum == number) for number in np.unique(stratum)]
    part = np.zeros(len(all_groups), np.int64)
    owed = np.zeros(len(fractions))
    for pool in strata if labels.ndim == 1 else [np.arange(len(all_groups))]:
        left, total = pool, sizes[pool].sum()
        for number, (name, share) in enumerate(fractions.items()):
            wanted = share * total + owed[number]
            chances = np.array([_uniform(turn(f"{seed}/{name}", all_groups[group].name)) for group in left])
            kept = shown[left] if labels.ndim == 2 else np.zeros((len(left), 0), np.int64)
            drawn = draw(kept, sizes[left], wanted, [turns[group] for group in left], chances)
            part[left[drawn]] = number + 1
            # What rounding left over is made up for by the next stratum, half an image at most:
            # ten classes of ten images must not all round 1.5 up to 2.
            owed[number] = np.clip(wanted - sizes[left[drawn]].sum(), -0.5, 0.5)
            left = left[~drawn]
    for pool in strata if labels.ndim == 1 else []:
        _complete(part, sorted(pool.tolist(), key=lambda group: (sizes[group], turns[group])), len(fractions))
    for column in np.flatnonzero(shown.any(axis=0)):  # a class that only groups of rarer ones have
        holders = np.flatnonzero(shown[:, column])
        if part[holders].all():
            part[min(holders.tolist(), key=lambda group: (-part[group], sizes[group], turns[group]))] = 0
    names = np.array(["train", *fractions], dtype="U5")
    assigned = np.empty(len(groups), names.dtype)
    for positions, number in zip(members, part.tolist(), strict=True):
        assigned[list(positions)] = names[number]
    return assigned


def _complete(part: np.ndarray, ordered: list[int], last: int) -> None:
    """Move groups of a stratum so that train (part 0) has one, then part 1, and so on to `last`.

    Args:
        part: Part of every group; changed in place.
        ordered: The stratum's groups, those to be moved first at the front.
        last: Number of the last part.
    """
    for number in range(last + 1):
        held = np.bincount(part[ordered], minlength=last + 1)
        if held[number]:
            continue
        givers = [other for other in range(last + 1) if held[other] > 1] or [
            other for other in range(last, number, -1) if held[other]
        ]
        if givers:
            part[next(group for group in ordered if part[group] == givers[0])] = number


def _uniform(digest: bytes) -> float:
    """Map a hash to a number from 0 to 1."""
    return int.from_bytes(digest, "big") / 2 ** (8 * len(digest))


def limit(labels: np.ndarray, groups: np.ndarray, images: int, seed: int) -> np.ndarray:
    """Pick whole groups of about `images` images, with the classes' shares kept.

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
    """Return the groups, each with its stratum, in the order of their names."""
    present = np.nan_to_num(labels) > 0 if labels.ndim == 2 else None
    counts = present.sum(axis=0) if present is not None else np.bincount(labels)
    names, number = np.unique(groups, return_inverse=True)
    order = np.argsort(number, kind="stable")
    pieces = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
    collected = []
    for name, piece in zip(names.tolist(), pieces, strict=True):
        if present is not None:
            classes = np.flatnonzero(present[piece].any(axis=0)).tolist()
        else:
            classes = sorted(set(labels[piece].tolist()))
        stratum = min(classes, key=lambda item: (counts[item], item)) if classes else -1
        collected.append(Group(name, tuple(piece.tolist()), stratum))
    return collected


def straddling(groups: np.ndarray, splits: np.ndarray) -> dict[str, tuple[str, ...]]:
    """Return the groups that stand in several splits, with those splits."""
    pairs = np.unique(np.stack([groups.astype(str), splits.astype(str)], axis=1), axis=0)
    seen: dict[str, list[str]] = defaultdict(list)
    for group, split in pairs.tolist():
        seen[group].append(split)
    return {group: tuple(names) for group, names in seen.items() if len(names) > 1}


def turn(seed: int | str, group: str) -> bytes:
    """Return a group's place in the order of a seed: 16 bytes of a hash."""
    return hashlib.blake2b(f"{seed}/{group}".encode(), digest_size=16).digest()
