"""Leaks between splits (groups, copies of an image) and labels that disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ttl_jax.data.images.decode import ImageSource
from ttl_jax.data.splits.copies import Copies, clusters
from ttl_jax.data.splits.splits import straddling

SAME_GROUP = "same group"
SAME_FILE = "same file"
SAME_PIXELS = "same pixels"
NEAR = "near-duplicate"
ALTERED = "altered copy"
CONFLICT = "same image, other label"
SAME_IMAGE = 0.999  # correlation of thumbnails from which two files show one image, saved twice
KINDS = (SAME_GROUP, SAME_FILE, SAME_PIXELS, NEAR, ALTERED, CONFLICT)


@dataclass(frozen=True)
class Finding:
    """Two images that stand in the way of an honest score, or one group with its splits.

    Attributes:
        kind: One of KINDS.
        one: An image, or the first image of a group in its first split.
        other: The copy of that image, or the group's first image in another split.
        splits: The splits of the two.
        likeness: Correlation of their thumbnails, or of their aligned detail; NaN for a group.
        about: The group's name, or the two labels.
    """

    kind: str
    one: str
    other: str
    splits: tuple[str, str]
    likeness: float = float("nan")
    about: str = ""

    def line(self) -> str:
        """Return one line for a terminal."""
        alike = f" ({self.likeness:.3f})" if self.kind in (NEAR, ALTERED) else ""
        about = f" [{self.about}]" if self.about else ""
        return f"{self.kind}{alike}{about}: {self.splits[0]} {self.one} = {self.splits[1]} {self.other}"


def find_leaks(
    where: Sequence[str],
    images: Sequence[ImageSource],
    groups: np.ndarray,
    splits: np.ndarray,
    copies: Copies,
) -> list[Finding]:
    """Return the groups and copies that stand in two splits.

    Args:
        where: Name of each image in messages, (N,).
        images: The images as listed, (N,). A file's bytes tell "same file" from "same pixels".
        groups: Group names, (N,).
        splits: Split names, (N,).
        copies: Copies among the N images.
    """
    findings = []
    for group, names in straddling(groups, splits).items():
        first = [int(np.flatnonzero((groups == group) & (splits == name))[0]) for name in names[:2]]
        pair = (names[0], names[1])
        findings.append(Finding(SAME_GROUP, where[first[0]], where[first[1]], pair, about=str(group)))
    across = np.flatnonzero(splits[copies.first] != splits[copies.second])
    for pair_number in across.tolist():
        one, other = int(copies.first[pair_number]), int(copies.second[pair_number])
        if copies.same_pixels[pair_number]:
            kind = SAME_FILE if _same_bytes(images[one], images[other]) else SAME_PIXELS
        else:
            kind = ALTERED if copies.altered[pair_number] else NEAR
        findings.append(
            Finding(
                kind,
                where[one],
                where[other],
                (str(splits[one]), str(splits[other])),
                float(copies.likeness[pair_number]),
            )
        )
    return findings


def find_conflicts(
    where: Sequence[str],
    labels: np.ndarray,
    names: Sequence[str],
    splits: np.ndarray,
    copies: Copies,
) -> list[Finding]:
    """Return the images that are one, saved once or twice, under two labels, in whatever splits.

    Args:
        where: Name of each image in messages, (N,).
        labels: Int class numbers (N,), or float (N, L) with NaN = unknown, which conflicts with nothing.
        names: Names of the classes.
        splits: Split names, (N,).
        copies: Copies among the N images.
    """
    findings = []
    for number in np.flatnonzero(copies.same_pixels | (copies.likeness >= SAME_IMAGE) & ~copies.altered):
        one, other = int(copies.first[number]), int(copies.second[number])
        about = _disagreement(np.asarray(labels[one]), np.asarray(labels[other]), names)
        if about:
            pair = (str(splits[one]), str(splits[other]))
            findings.append(
                Finding(CONFLICT, where[one], where[other], pair, float(copies.likeness[number]), about)
            )
    return findings


def leaking_images(splits: np.ndarray, copies: Copies) -> dict[tuple[str, str], int]:
    """Count the images of one split that have a copy in another, directly or over a chain of copies.

    Returns:
        {(split, other split): images of `split`}, pairs without any left out.
    """
    component = clusters(len(splits), copies.first, copies.second)
    counts = {}
    for one, other in (("test", "train"), ("val", "train"), ("test", "val")):
        count = int(np.isin(component[splits == one], component[splits == other]).sum())
        if count:
            counts[one, other] = count
    return counts


def summary(findings: Sequence[Finding], leaking: dict[tuple[str, str], int]) -> str:
    """Return the counts in one clause."""
    counts = Counter(finding.kind for finding in findings)
    parts = [f"{counts[kind]} x {kind}" for kind in KINDS if counts[kind]]
    images = [f"{count} images of {one} stand in {other} too" for (one, other), count in leaking.items()]
    return "; ".join([", ".join(images), ", ".join(parts)] if images else [", ".join(parts)])


def _same_bytes(one: ImageSource, other: ImageSource) -> bool:
    if not isinstance(one, Path) or not isinstance(other, Path):
        return False
    return one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes()


def _disagreement(one: np.ndarray, other: np.ndarray, names: Sequence[str]) -> str:
    if np.ndim(one) == 0:
        return "" if one == other else f"{names[one.item()]} and {names[other.item()]}"
    differs = np.flatnonzero((one != other) & ~np.isnan(one) & ~np.isnan(other))
    return ", ".join(f"{names[int(place)]} {one[place]:.0f} and {other[place]:.0f}" for place in differs)
