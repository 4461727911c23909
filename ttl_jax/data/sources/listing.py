"""The examples of a source before any image is decoded, and the names of splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar
from unicodedata import category

import numpy as np

from ttl_jax.config.data import DataConfig
from ttl_jax.data.dataset import Task
from ttl_jax.data.images.decode import ImageSource, Stack
from ttl_jax.errors import LONGEST, UserError
from ttl_jax.registry import register

# Fields of some sources alone.
READS = (
    "root", "image", "label", "labels", "group", "split", "window", "slices", "depth", "spacing", "plane",
)  # fmt: skip
TABLE = ("root", "image", "label", "labels", "group", "split")  # those that speak of a table
SPLITS = ("train", "val", "test")
SPLIT_ALIASES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Listing:
    """All examples of a source.

    Attributes:
        source: Name of the source in messages.
        images: Files, uint8 arrays (H, W[, C]) or pictures.
        where: Origin of each example, for messages: a file, a table's row.
        labels: Int32 class numbers (N,), or float32 (N, L) with NaN = unknown.
        ids: Text (N,), unique.
        groups: Text (N,): names of the patients or lesions.
        class_names: Names of the classes, in the order of the labels.
        task: "multiclass" or "multilabel".
        splits: The source's own splits (N,), "train", "val" or "test"; "" throughout if it has none.
        splits_from: Origin of the splits, for messages.
        columns: Other columns, (N,) each.
        notes: Sentences on how the source was read, for the header and the report.
        drawn_by: Text (N,): names of the groups that a split is drawn by, where `groups` are hashes under a
            key: a split must not depend on that. They may identify people, and are never written.
        numbered: Whether ids and groups are numbers that the source gave them, and so say nothing.
    """

    source: str
    images: Sequence[ImageSource]
    where: Sequence[str]
    labels: np.ndarray
    ids: np.ndarray
    groups: np.ndarray
    class_names: tuple[str, ...]
    task: Task
    splits: np.ndarray
    splits_from: str = ""
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    drawn_by: np.ndarray | None = field(default=None, repr=False)
    numbered: bool = False

    def __post_init__(self) -> None:
        """Refuse names of classes that would drive a terminal or break a table."""
        for name in self.class_names:
            if len(name) > LONGEST:
                raise UserError(f"class {name!r} of {self.source} has {len(name):,} characters: shorten it")
            if any(category(letter) == "Cc" for letter in name):
                raise UserError(f"class {name!r} of {self.source} holds control characters: rename it")

    @property
    def drawn_by_or_groups(self) -> np.ndarray:
        """Text (N,): the names of the groups that a split is drawn by."""
        return self.groups if self.drawn_by is None else self.drawn_by

    @property
    def volumes(self) -> bool:
        """True if the examples are volumes."""
        return any(isinstance(image, Stack) for image in self.images)

    def take(self, indices: np.ndarray) -> Listing:
        """Return the examples at `indices`, in that order."""
        return replace(
            self,
            images=[self.images[index] for index in indices],
            where=[self.where[index] for index in indices],
            labels=self.labels[indices],
            ids=self.ids[indices],
            groups=self.groups[indices],
            splits=self.splits[indices],
            columns={name: values[indices] for name, values in self.columns.items()},
            drawn_by=None if self.drawn_by is None else self.drawn_by[indices],
        )

    def expand(self, pictures: Sequence[Sequence[ImageSource]], groups: np.ndarray) -> Listing:
        """Return one example per image of files that hold several, with the file's label.

        Args:
            pictures: The images of each file. If there are several, ids end in "#NUMBER".
            groups: Group of each file, (N,).
        """
        counts = [len(own) for own in pictures]
        every = self.take(np.repeat(np.arange(len(counts)), counts))
        numbers = [number for count in counts for number in range(count)]
        several = np.repeat(counts, counts) > 1
        marks = [f"#{number:04d}" if many else "" for number, many in zip(numbers, several, strict=True)]
        return replace(
            every,
            images=[picture for own in pictures for picture in own],
            where=[place + mark for place, mark in zip(every.where, marks, strict=True)],
            ids=np.array([name + mark for name, mark in zip(every.ids, marks, strict=True)]),
            groups=np.repeat(groups, counts),
        )


def make_listing(
    source: str,
    images: Sequence[ImageSource],
    where: Sequence[str],
    ids: Sequence[str],
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
) -> Listing:
    """Build a Listing from rows; its other fields are for `dataclasses.replace`.

    Args:
        source: Name of the source in messages.
        images: One image per example.
        where: Origin of each example, for messages.
        ids: Text, unique.
        labels: Int class numbers (N,), or float (N, L) with NaN = unknown for several labels.
        class_names: Names of the classes, in the order of the labels.
        groups: Patients or lesions. None makes every example its own group.
        splits: "train", "val" and "test"; None if the source has no splits of its own.
    """
    several = labels.ndim == 2
    return Listing(
        source=source,
        images=images,
        where=where,
        labels=labels.astype(np.float32 if several else np.int32),
        ids=np.array(ids),
        groups=np.array(ids if groups is None else groups),
        class_names=tuple(class_names),
        task="multilabel" if several else "multiclass",
        splits=no_splits(len(ids)) if splits is None else np.array(splits, dtype="U5"),
    )


def no_splits(count: int) -> np.ndarray:
    """Return the `splits` of a source that has none of its own."""
    return np.full(count, "", dtype="U5")


Read = Callable[[DataConfig], Listing]
R = TypeVar("R", bound=Read)


class Source(NamedTuple):
    """A registered data source: its function config -> Listing, and the fields of `READS` that it reads."""

    read: Read
    reads: tuple[str, ...] = READS


def source(name: str, *reads: str) -> Callable[[R], R]:
    """Register a function as the source `data.name=NAME`; a decorator.

    Args:
        name: Name of the source.
        reads: Fields of `READS` that it reads. Others are refused, so that a group is never overlooked.
    """

    def add(read: R) -> R:
        register("source", name)(Source(read, reads))
        return read

    return add


def listed(listing: Listing, config: DataConfig) -> str:
    """Return a digest of ids, labels, groups, splits and classes, and of the files' sizes and times.

    Another digest need not mean other images (a copied folder has other times): they are decoded then.
    """
    digest = hashlib.blake2b(digest_size=16)
    for values in (listing.ids, listing.drawn_by_or_groups, listing.splits, np.array(listing.class_names)):
        digest.update("\n".join(values.tolist()).encode())
        digest.update(b"\0")
    digest.update(np.ascontiguousarray(listing.labels).tobytes())
    stamps: dict[Path, bytes] = {}
    _add(digest, Path(config.path), stamps)
    for image in listing.images:
        _add(digest, image, stamps)
    return digest.hexdigest()


def _add(digest: hashlib.blake2b, image: ImageSource, stamps: dict[Path, bytes]) -> None:
    if isinstance(image, Stack):
        for each in image.slices:
            _add(digest, each, stamps)
        return
    if isinstance(image, np.ndarray):
        digest.update(np.ascontiguousarray(image).tobytes())
        return
    path = image if isinstance(image, Path) else getattr(image, "path", None)
    if not isinstance(path, Path):
        return
    if path not in stamps:
        try:
            about = path.stat()
            stamps[path] = b"" if path.is_dir() else f"{about.st_size} {about.st_mtime_ns};".encode()
        except OSError:
            stamps[path] = b"absent;"
    digest.update(stamps[path])
