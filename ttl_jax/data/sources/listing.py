"""What a source found, before any image is decoded; and the names that splits go by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

import numpy as np

from ttl_jax.config.data import DataConfig
from ttl_jax.data.dataset import Task
from ttl_jax.data.images.decode import ImageSource, Stack
from ttl_jax.registry import register

READS = ("group", "split", "window", "slices", "depth", "spacing", "plane")  # fields of some sources alone
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
        source: what to call it in messages.
        images: files, uint8 arrays (H, W[, C]) or pictures.
        where: where each example comes from, for messages: a file, a table's row.
        labels: int32 (N,) or float32 (N, L) with NaN = unknown.
        ids: (N,) unique text.
        groups: (N,) text.
        class_names: in the order of the labels.
        task: "multiclass" or "multilabel".
        splits: (N,) "train", "val", "test" as the source has them, or "" throughout.
        splits_from: what the splits come from, for messages.
        columns: other columns (N,).
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

    @property
    def volumes(self) -> bool:
        """Whether the examples are volumes."""
        return any(isinstance(image, Stack) for image in self.images)

    def take(self, indices: np.ndarray) -> Listing:
        """The examples at `indices`, in that order."""
        return replace(
            self,
            images=[self.images[index] for index in indices],
            where=[self.where[index] for index in indices],
            labels=self.labels[indices],
            ids=self.ids[indices],
            groups=self.groups[indices],
            splits=self.splits[indices],
            columns={name: values[indices] for name, values in self.columns.items()},
        )

    def expand(self, pictures: Sequence[Sequence[ImageSource]], groups: np.ndarray) -> Listing:
        """Files that hold several images: one example for each, with the file's label.

        Args:
            pictures: the images of each file; where there are several, ids end in "#NUMBER".
            groups: (N,) of the files.
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
    splits_from: str = "",
    columns: Mapping[str, np.ndarray] | None = None,
) -> Listing:
    """A Listing from rows.

    Args:
        source: what to call it in messages.
        images: one for each example.
        where: where each comes from.
        ids: unique text.
        labels: int (N,) class numbers, or float (N, L) with NaN = unknown: several labels.
        class_names: in the order of the labels.
        groups: patients or lesions; None where none are named: every example for itself.
        splits: "train", "val" and "test"; None where the source has none of its own.
        splits_from: what they come from.
        columns: other columns (N,).
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
        splits_from=splits_from,
        columns=columns or {},
    )


def no_splits(count: int) -> np.ndarray:
    """The `splits` of a source that has none of its own."""
    return np.full(count, "", dtype="U5")


Read = Callable[[DataConfig], Listing]
R = TypeVar("R", bound=Read)


class Source(NamedTuple):
    """A data source as it is registered: lists the examples of a config, and which of `READS` it reads."""

    read: Read
    reads: tuple[str, ...] = READS


def source(name: str, *reads: str) -> Callable[[R], R]:
    """Registers a function as the source `data.name=NAME`; a decorator.

    Args:
        name: of the source.
        reads: those of `READS` that it reads; others are refused, so that a group is never overlooked.
    """

    def add(read: R) -> R:
        register("source", name)(Source(read, reads))
        return read

    return add
