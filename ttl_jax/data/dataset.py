"""One split of a data set: its images behind a reader, its labels, ids and groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np

from ttl_jax.typing import Int, UInt8

Task = Literal["multiclass", "multilabel"]


class ImageReader(Protocol):
    """Images by position, all of one size; safe to call from several threads at once."""

    def __len__(self) -> int:
        """Number of images."""

    def read(self, indices: Int[np.ndarray, " B"]) -> UInt8[np.ndarray, "B S S 3"]:
        """Return the images at these positions, in this order."""


@dataclass(frozen=True)
class ArrayReader:
    """Reader over images in memory.

    Attributes:
        images: Images, uint8 (N, S, S, 3).
    """

    images: UInt8[np.ndarray, "N S S 3"]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Int[np.ndarray, " B"]) -> UInt8[np.ndarray, "B S S 3"]:
        """Return the images at these positions, in this order, as a copy."""
        return self.images[np.asarray(indices)]


@dataclass(frozen=True)
class SubsetReader:
    """Some of another reader's images, so that splits share one cache without copying it.

    Attributes:
        base: The reader that holds the images.
        positions: Position in `base` of each image, (N,).
    """

    base: ImageReader
    positions: Int[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.positions)

    def read(self, indices: Int[np.ndarray, " B"]) -> UInt8[np.ndarray, "B S S 3"]:
        """Return the images at these positions of the subset, in this order."""
        return self.base.read(self.positions[np.asarray(indices)])


@dataclass(frozen=True)
class ViewsReader:
    """Reader over several prepared views of each example; epoch e sees view e modulo the number of views.

    Attributes:
        views: Views (K, N, ...), in memory or on disk.
    """

    views: np.ndarray

    def __len__(self) -> int:
        return self.views.shape[1]

    def read(self, indices: Int[np.ndarray, " B"]) -> np.ndarray:
        """Return the first view of the examples at these positions."""
        return self.views[0, np.asarray(indices)]

    def read_epochs(self, indices: Int[np.ndarray, " B"], epochs: Int[np.ndarray, " B"]) -> np.ndarray:
        """Return the view of each example that its epoch sees, as a copy."""
        return self.views[np.asarray(epochs) % len(self.views), np.asarray(indices)]


@dataclass(frozen=True)
class Origin:
    """The origin of a data set, and how it was read.

    Attributes:
        source: Its kind and place, as "folder /data/xrays"; "" where it is not known.
        splits_from: The origin of its split, in words.
        notes: Sentences on how it was read, as "one-hot over 3 columns: one class an image".
        key: Digest of the user's key under which groups and ids were hashed; "" where they are no hashes.
        listed: Digest of all that was listed before an image was decoded, files' sizes and times too; "" for
            what was never listed.
        kept_names: Whether outputs may hold the ids and groups; else they have `pseudonyms` of them.
    """

    source: str = ""
    splits_from: str = ""
    notes: tuple[str, ...] = ()
    key: str = ""
    listed: str = ""
    kept_names: bool = True


@dataclass(frozen=True)
class Dataset:
    """One split.

    Attributes:
        name: "train", "val", "test" or another evaluation split such as "shifted".
        labels: Int32 (N,) for "multiclass"; float32 (N, L) of 0, 1 or NaN (unknown) for "multilabel".
        ids: Text (N,), unique over the whole data set: a path or a row's name. Ids and groups are kept packed
            (see `_Text`): ask `names` for a few of them.
        groups: Text (N,): the patient or lesion that must not straddle splits.
        class_names: Names of the classes, in the order of the labels.
        task: "multiclass" or "multilabel".
        images: Reader of uint8 (B, S, S, 3), or (B, D, S, S, 3) for volumes.
        columns: Other columns of the user's table, (N,) each.
        skipped: Images of the whole data set that could not be read (data.on_error=skip), each with its
            reason.
        origin: The data's origin, the same in all splits.
        pixels: Digests of the decoded images, uint64 (N,); None where they were not read by this package.

    Raises:
        ValueError: the parts are not of one length.
    """

    name: str
    labels: np.ndarray
    ids: np.ndarray
    groups: np.ndarray
    class_names: tuple[str, ...]
    task: Task
    images: ImageReader
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    origin: Origin = Origin()
    pixels: np.ndarray | None = None

    def __post_init__(self) -> None:
        held = self.__dict__
        if np.array_equal(held["ids"], held["groups"]):
            held["groups"] = held["ids"]
        lengths = {
            "labels": len(self.labels),
            "ids": len(held["ids"]),
            "groups": len(held["groups"]),
            "images": len(self.images),
        } | {f"column {name!r}": len(values) for name, values in self.columns.items()}
        if self.pixels is not None:
            lengths["pixels"] = len(self.pixels)
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the parts of split {self.name!r} differ in length: {lengths}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def positive(self) -> str:
        """The positive class of two; "" where there are not two, or several labels an image."""
        return self.class_names[1] if self.task == "multiclass" and len(self.class_names) == 2 else ""

    def names(self, indices: Int[np.ndarray, " K"]) -> list[str]:
        """Return the ids of these examples."""
        return self.__dict__["ids"][np.asarray(indices)].astype(str).tolist()

    def take(self, indices: Int[np.ndarray, " K"], name: str | None = None) -> Dataset:
        """Return the examples at `indices`, in that order; the images are not copied."""
        indices = np.asarray(indices, np.int64)
        reader = self.images
        if isinstance(reader, SubsetReader):
            subset = SubsetReader(reader.base, reader.positions[indices])
        else:
            subset = SubsetReader(reader, indices)
        return replace(
            self,
            name=self.name if name is None else name,
            labels=self.labels[indices],
            ids=self.__dict__["ids"][indices],
            groups=self.__dict__["groups"][indices],
            images=subset,
            columns={key: values[indices] for key, values in self.columns.items()},
            pixels=None if self.pixels is None else self.pixels[indices],
        )


class _Text:
    """A field of text, kept as one byte a character where all of it is ASCII: NumPy's own text takes four."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: Dataset | None, owner: type) -> np.ndarray:
        if instance is None:
            raise AttributeError(self.name)  # the class has none
        held = instance.__dict__[self.name]
        return held.astype(str) if held.dtype.kind == "S" else held

    def __set__(self, instance: Dataset, values: np.ndarray) -> None:
        held = np.asarray(values)
        if held.dtype.kind == "U" and held.size:
            try:
                held = held.astype(f"S{max(1, np.strings.str_len(held).max())}")
            except UnicodeEncodeError:
                pass
        instance.__dict__[self.name] = held


for _name in ("ids", "groups"):
    setattr(Dataset, _name, _Text(_name))
