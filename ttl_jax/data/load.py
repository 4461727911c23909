"""From a DataConfig to checked, split data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ttl_jax.data.builders import BUILDERS
from ttl_jax.data.cache import DecodingReader, read_all
from ttl_jax.data.config import DataConfig
from ttl_jax.data.copies import MODES, Copies, clusters, find_copies, merge_groups
from ttl_jax.data.dataset import Dataset, ImageReader, SubsetReader
from ttl_jax.data.decode import RESIZE_MODES, Geometry
from ttl_jax.data.dicom import read_dicom
from ttl_jax.data.folder import read_folder
from ttl_jax.data.folds import assign_folds, splits_of_fold
from ttl_jax.data.here import here
from ttl_jax.data.leaks import Finding, find_conflicts, find_leaks, leaking_images, summary
from ttl_jax.data.listing import SPLITS, Listing, no_splits
from ttl_jax.data.nifti import read_nifti
from ttl_jax.data.npz import read_arrays, read_npz
from ttl_jax.data.presets import PHANTOM_MODALITIES
from ttl_jax.data.progress import Progress
from ttl_jax.data.record import read_record
from ttl_jax.data.split_file import read_folds, read_splits, write_folds, write_splits
from ttl_jax.data.splits import hold_out, limit
from ttl_jax.data.table import read_table
from ttl_jax.data.tfds import PREFIX, read_tfds
from ttl_jax.errors import UserError, nearest

Splits = dict[str, Dataset]


# Sources of files and arrays, and the fields that name a column (or a DICOM attribute) of each.
LISTINGS: dict[str, Callable[[DataConfig], Listing]] = {
    "folder": lambda config: read_folder(config.path),
    "csv": read_table,
    "npz": lambda config: read_npz(config.path),
    "dicom": read_dicom,
    "nifti": read_nifti,
    "record": lambda config: read_record(config.path),
    **{
        name: lambda config, read=read: read(Path(config.path))  # type: ignore[misc]
        for name, read in BUILDERS.items()
    },
}
_PHANTOMS = tuple(f"phantom/{modality}" for modality in PHANTOM_MODALITIES)
SOURCES = (*LISTINGS, *_PHANTOMS, f"{PREFIX}NAME")
# Fields that only some sources read. A group that is silently not looked at would be a leak.
_FIELDS = {
    "group": ("csv", "dicom", "nifti", "tfds"),
    "split": ("csv", "dicom", "nifti"),
    "window": ("dicom", "nifti"),
    "slices": ("dicom", "nifti"),
    "depth": ("dicom", "nifti"),
    "spacing": ("dicom", "nifti"),
    "plane": ("nifti",),
}


def load(config: DataConfig, progress: Progress | None = None) -> Splits:
    """Reads, checks and splits the data that a config names.

    Args:
        config: what to read.
        progress: called with (done, total) after each image; None prints a line every few seconds.

    Returns:
        {"train", "val", "test"} (and "shifted" for a phantom).

    Raises:
        UserError: anything about the data that the user has to mend, in one sentence.
    """
    check(config)
    config = here(config)
    if config.name in _PHANTOMS:
        from ttl_jax.data import phantom

        _refuse_fields(config, config.name)
        for field in ("splits", "folds", "resplit"):
            if value := getattr(config, field):
                raise UserError(f"data.{field}={value!r} is not for data.name={config.name}: a phantom "
                                "splits its patients by data.split_seed")  # fmt: skip
        return _limited(phantom.load(config), config)
    return assemble(read_listing(config), config, progress)


def read_listing(config: DataConfig) -> Listing:
    """The examples that a config names; no image is decoded yet.

    Raises:
        UserError: no such source, or one that generates its images; the source's own faults.
    """
    if config.name.startswith(PREFIX):
        _refuse_fields(config, "tfds")
        return read_tfds(config)
    if config.name not in LISTINGS:
        raise UserError(
            f"there is no data source {config.name!r} for data.name{nearest(config.name, SOURCES)}"
        )
    if not config.path:
        raise UserError(f"data.path is empty; name the file or folder that data.name={config.name} reads")
    _refuse_fields(config, config.name)
    return LISTINGS[config.name](here(config))


def from_arrays(images: np.ndarray, labels: np.ndarray, config: DataConfig) -> Splits:
    """Splits arrays held in memory as `load` splits files; `config.name` and `.path` are not read.

    Args:
        images: uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3).
        labels: (N,) or (N, 1) integers or text; (N, L > 1) zeros, ones, NaN for unknown.

    Raises:
        UserError: another shape or kind of numbers, or counts that differ.
    """
    check(config)
    _refuse_fields(config, "a pair of arrays")
    return assemble(read_arrays(np.asarray(images), np.asarray(labels)), config)


def _refuse_fields(config: DataConfig, source: str) -> None:
    """Refuses fields that were set for a source that does not read them."""
    for field, readers in _FIELDS.items():
        value = getattr(config, field)
        if source in readers or value == getattr(DataConfig, field):
            continue
        columns = " names a column and" if field in ("group", "split") else ""
        raise UserError(
            f"data.{field}={value!r}{columns} is read by the sources {', '.join(readers)}, not by {source}; "
            "use one of them, or leave it out"
        )


def check(config: DataConfig) -> None:
    """Refuses values that no source could use.

    Raises:
        UserError: naming the field.
    """
    for field, number in (("image_size", config.image_size), ("depth", config.depth)):
        if number < 1:
            raise UserError(f"data.{field}={number} must be above 0")
    for field, value, choices in (
        ("resize", config.resize, RESIZE_MODES),
        ("on_error", config.on_error, ("fail", "skip")),
        ("duplicates", config.duplicates, MODES),
    ):
        if value not in choices:
            raise UserError(f"data.{field}={value!r} does not exist{nearest(value, choices)}")
    if not 0 < config.likeness <= 1:
        raise UserError(f"data.likeness={config.likeness} is not a correlation above 0 and up to 1")
    if not 0 <= config.pad_value <= 255:
        raise UserError(f"data.pad_value={config.pad_value} is not a gray from 0 to 255")
    for field, share in (("val", config.val_fraction), ("test", config.test_fraction)):
        if not 0 < share < 1:
            raise UserError(f"data.{field}_fraction={share} is not between 0 and 1")
    if config.val_fraction + config.test_fraction >= 1:
        raise UserError("data.val_fraction and data.test_fraction leave nothing to train on")
    if not 0 <= config.spacing < 1000:
        raise UserError(f"data.spacing={config.spacing} is not a number of millimetres from 0 to 1000")
    if config.folds and (config.folds < 3 or not 0 <= config.fold < config.folds):
        raise UserError(
            f"data.folds={config.folds} with data.fold={config.fold}: folds are 3 or more (train, val and "
            "test need one each), and fold counts from 0"
        )
    if not 0 < config.train_share <= 1 or (config.train_share < 1 and config.train_limit):
        raise UserError(
            f"data.train_share={config.train_share} must be above 0 and up to 1, and 1 with data.train_limit"
        )
    if config.train_limit < 0:
        raise UserError(f"data.train_limit={config.train_limit} is negative; 0 means no limit")


@dataclass(frozen=True)
class Examined:
    """A listing whose images were read, split and searched for leaks.

    Attributes:
        listing: the readable examples; groups that share a copy of an image are one.
        images: reader of their pixels.
        splits: (N,) names.
        copies: pairs among them.
        leaks: groups and copies that stand in two splits.
        conflicts: one image under two labels.
        skipped: a sentence for each image left out as unreadable.
    """

    listing: Listing
    images: ImageReader
    splits: np.ndarray
    copies: Copies
    leaks: list[Finding]
    conflicts: list[Finding]
    skipped: tuple[str, ...]

    def summary(self) -> str:
        """Leaks and conflicts, counted, in one clause."""
        return summary([*self.leaks, *self.conflicts], leaking_images(self.splits, self.copies))

    def overview(self) -> str:
        """Sizes of the splits, and the copies within the data as a whole."""
        sizes = ", ".join(f"{name} {int((self.splits == name).sum())}" for name in SPLITS)
        component = clusters(len(self.splits), self.copies.first, self.copies.second)
        members = np.bincount(component) if len(component) else np.zeros(1, int)
        several = members[members > 1]
        exact = int(self.copies.same_pixels.sum())
        largest = f", the largest of {members.max()}" if len(several) else ""
        return (
            f"{self.listing.source}: {sizes}; {exact} exact and {len(self.copies) - exact} near pairs of "
            f"copies, {several.sum()} images in {len(several)} clusters{largest}; "
            f"{len(np.unique(self.listing.groups))} groups after joining copies"
        )


def examine(listing: Listing, config: DataConfig, progress: Progress | None = None) -> Examined:
    """Reads a listing's images, splits them and looks for leaks, without refusing any.

    Args:
        listing: what a source found.
        config: how to read and split it.
        progress: as for `load`.

    Raises:
        UserError: an image cannot be read, or the split file is not of these data.
    """
    depth = config.depth if config.slices == "volume" else 0
    geometry = Geometry(config.image_size, config.resize, config.pad_value, depth)
    checked = read_all(listing.images, listing.where, geometry, config.cache_gb, progress=progress)
    if config.name == "nifti" and isinstance(checked.reader, DecodingReader):
        print(
            f"the slices are larger than data.cache_gb={config.cache_gb}, so each is cut from its volume at "
            "every read, which is slow; prepare them once (python -m ttl_jax prepare)",
            flush=True,
        )
    skipped = refuse_or_report(listing, checked.faults, config.on_error)
    kept = np.array([i for i in range(len(listing.ids)) if i not in checked.faults], np.int64)
    left_out = frozenset(listing.ids[i] for i in checked.faults)
    listing = listing.take(kept)
    if config.resplit:
        listing = replace(listing, splits=no_splits(len(kept)))
    hashes = [checked.hashes[i] for i in kept]
    copies = find_copies(hashes, checked.thumbnails[kept], config.duplicates, config.likeness)
    joined = replace(listing, groups=merge_groups(listing.groups, copies))
    if config.folds:
        fold_of = _fold_of(joined, config, left_out)
        splits = splits_of_fold(fold_of, config.folds, config.fold, listing.splits == "test")
    elif config.splits and Path(config.splits).exists():
        splits = read_splits(config.splits, listing.ids, left_out)
    else:
        splits = _fill(joined, config)
    return Examined(
        listing=joined,
        images=SubsetReader(checked.reader, kept),
        splits=splits,
        copies=copies,
        leaks=find_leaks(listing.ids.tolist(), listing.images, listing.groups, splits, copies),
        conflicts=find_conflicts(listing.ids.tolist(), listing.labels, listing.class_names, splits, copies),
        skipped=skipped,
    )


def assemble(listing: Listing, config: DataConfig, progress: Progress | None = None) -> Splits:
    """Reads a listing's images, splits them, and builds the data sets.

    Args:
        listing: what a source found.
        config: how to read and split it.
        progress: as for `load`.

    Raises:
        UserError: an image cannot be read, a split has no images or lacks a class in training, or a
            group or a copy of an image straddles splits that the user made.
    """
    found = examine(listing, config, progress)
    _refuse_leaks(found, config)
    _refuse_missing(found.listing, found.splits)
    if found.conflicts:
        print(
            f"warning: {len(found.conflicts)} images stand under two labels, as "
            f"{found.conflicts[0].line()}; `python -m ttl_jax leaks` lists them",
            flush=True,
        )
    if config.splits and not Path(config.splits).exists():
        if config.folds:
            fold_of = _fold_of(found.listing, config, frozenset())
            write_folds(config.splits, found.listing.ids, fold_of, listing.source)
        else:
            write_splits(config.splits, found.listing.ids, found.splits, listing.source)
        print(f"wrote the split to {config.splits}", flush=True)
    whole = Dataset(
        name="all",
        labels=found.listing.labels,
        ids=found.listing.ids,
        groups=found.listing.groups,
        class_names=listing.class_names,
        task=listing.task,
        images=found.images,
        columns=found.listing.columns,
        skipped=found.skipped,
    )
    sets = {name: whole.take(np.flatnonzero(found.splits == name), name) for name in SPLITS}
    return _limited(sets, config)


def _limited(sets: Splits, config: DataConfig) -> Splits:
    """The data sets with `train_limit` or `train_share` applied; held-out splits stay whole."""
    training = sets["train"]
    wanted = config.train_limit or round(config.train_share * len(training))
    if wanted >= len(training):
        return sets
    chosen = limit(training.labels, training.groups, wanted, config.split_seed)
    limited = training.take(chosen)
    share = f"train_share={config.train_share}"
    field = f"train_limit={config.train_limit}" if config.train_limit else share
    for name, lost in _untaught(limited):
        raise UserError(
            f"data.{field} leaves {name} without a {lost}; raise it, or try another data.split_seed"
        )
    if len(chosen) != wanted:
        print(
            f"data.{field}: {len(chosen)} of {len(training)} training images are used, as groups stay whole",
            flush=True,
        )
    return {**sets, "train": limited}


def _untaught(training: Dataset) -> Iterator[tuple[str, str]]:
    """What these images cannot teach: (the class or label, the kind of image it lacks)."""
    if training.task == "multiclass":
        counts = np.bincount(training.labels, minlength=len(training.class_names))
        for place in np.flatnonzero(counts == 0):
            yield f"class {training.class_names[place]!r}", "training image"
        return
    for value, kind in ((1, "positive"), (0, "negative")):
        for place in np.flatnonzero(~(training.labels == value).any(axis=0)):
            yield f"label {training.class_names[place]!r}", kind


def refuse_or_report(listing: Listing, faults: Mapping[int, str], on_error: str) -> tuple[str, ...]:
    """One sentence for each image that cannot be read, printed where they are skipped.

    Raises:
        UserError: there is one and on_error is "fail", or none can be read.
    """
    if not faults:
        return ()
    sentences = tuple(f"{listing.where[index]} {faults[index]}" for index in sorted(faults))
    if on_error == "fail":
        more = f" (and {len(faults) - 1} more images)" if len(faults) > 1 else ""
        raise UserError(
            f"{sentences[0]}{more}; mend or remove it, or set data.on_error=skip to go on without"
        )
    if len(faults) == len(listing.ids):
        raise UserError(f"none of the {len(faults)} images of {listing.source} can be read: "
                        f"{sentences[0]}")  # fmt: skip
    print(f"skipped {len(faults)} of {len(listing.ids)} images:", flush=True)
    for sentence in sentences:
        print(f"  {sentence}", flush=True)
    return sentences


def _fold_of(listing: Listing, config: DataConfig, left_out: frozenset[str]) -> np.ndarray:
    """Each image's fold, from the split file or made here; -1 for a test split of the data's own."""
    fold_of = np.full(len(listing.ids), -1)
    pool = np.flatnonzero(listing.splits != "test")
    if config.splits and Path(config.splits).exists():
        fold_of[pool] = read_folds(config.splits, listing.ids[pool], config.folds, left_out)
    else:
        labels, groups = listing.labels[pool], listing.groups[pool]
        fold_of[pool] = assign_folds(labels, groups, config.folds, config.split_seed)
    return fold_of


def _fill(listing: Listing, config: DataConfig) -> np.ndarray:
    """Splits what the source left unsplit; a missing val or test comes out of train alone."""
    own = (listing.splits != "").any()
    splits = listing.splits.copy() if own else np.full(len(listing.ids), "train", dtype="U5")
    wanted = {"test": config.test_fraction, "val": config.val_fraction}
    lacking = {name: share for name, share in wanted.items() if name not in splits}
    pool = np.flatnonzero(splits == "train")
    if not lacking or not len(pool):
        return splits
    splits[pool] = hold_out(listing.labels[pool], listing.groups[pool], lacking, config.split_seed)
    if own:
        print(
            f"{listing.source} has no {' and no '.join(lacking)}: taken from train by "
            f"data.split_seed={config.split_seed}",
            flush=True,
        )
    return splits


def _refuse_leaks(found: Examined, config: DataConfig) -> None:
    if not found.leaks:
        return
    origin = config.splits if config.splits and Path(config.splits).exists() else found.listing.splits_from
    sentence = f"the splits of {origin} leak: {found.summary()}, the first: {found.leaks[0].line()}"
    if not config.allow_leaks:
        raise UserError(
            f"{sentence}; `python -m ttl_jax leaks` lists all, data.resplit=True splits anew without, or set "
            "data.allow_leaks=True and know that the score is too good"
        )
    print(f"warning: {sentence}; allowed by data.allow_leaks", flush=True)


def _refuse_missing(listing: Listing, splits: np.ndarray) -> None:
    for name in SPLITS:
        if name not in splits:
            raise UserError(
                f"split {name} of {listing.source} has no images; it needs more images, more groups, "
                "or another split"
            )
    if listing.task == "multilabel":
        _refuse_unknowable(listing, splits)
        return
    for name in SPLITS:
        counts = np.bincount(listing.labels[splits == name], minlength=len(listing.class_names))
        absent = [listing.class_names[place] for place in np.flatnonzero(counts == 0)]
        if absent and name == "train":
            raise UserError(
                f"class {absent[0]!r} of {listing.source} has no image in train; add some, or remove "
                "the class"
            )
        if absent:
            print(f"note: {name} has no image of {', '.join(absent)}", flush=True)


def _refuse_unknowable(listing: Listing, splits: np.ndarray) -> None:
    """Several labels: each needs both of its values in train, and should have them elsewhere."""
    for name in SPLITS:
        part = listing.labels[splits == name]
        for value, kind in ((1, "positive"), (0, "negative")):
            absent = [listing.class_names[place] for place in np.flatnonzero(~(part == value).any(axis=0))]
            if absent and name == "train":
                raise UserError(
                    f"label {absent[0]!r} of {listing.source} has no {kind} in train; add some, or leave "
                    "the label out"
                )
            if absent:
                print(f"note: {name} has no {kind} of {', '.join(absent)}", flush=True)
