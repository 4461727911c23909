"""From a DataConfig to checked, split data sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax.config import DataConfig, typed
from ttl_jax.data.bucket import here
from ttl_jax.data.dataset import Dataset, Origin
from ttl_jax.data.patient_key import key_digest
from ttl_jax.data.positive import positive_second
from ttl_jax.data.progress_lines import Progress
from ttl_jax.data.pseudonyms import shareable
from ttl_jax.data.sources.listing import SPLITS, Listing, listed
from ttl_jax.data.sources.npz import read_arrays
from ttl_jax.data.sources.registry import PHANTOMS, read_listing, refuse_fields
from ttl_jax.data.splits.examine import examine, fold_of_each
from ttl_jax.data.splits.requirements import lacking, refuse_leaks, refuse_missing
from ttl_jax.data.splits.split_file import write_folds, write_splits
from ttl_jax.data.splits.splits import limit
from ttl_jax.errors import UserError
from ttl_jax.system import remote

Splits = dict[str, Dataset]
GENERATED = (
    "GENERATED IMAGES: {} is drawn by a program, no patient's image is in it, and its scores say nothing of "
    "yours; name your own as --config.data.path=FOLDER"
)


def load(config: DataConfig, progress: Progress | None = None) -> Splits:
    """Read, check and split the data that a config names.

    Args:
        config: Names the source, and how to decode and split it.
        progress: Called with (done, total) after each image. None prints a line every few seconds.

    Returns:
        {"train", "val", "test"} (and "shifted" for a phantom).

    Raises:
        UserError: anything about the data that the user has to mend, in one sentence.
    """
    # Check first, because `here` may copy files from a bucket.
    check(config)
    given, config = config, here(config)
    if config.name in PHANTOMS:
        from ttl_jax.data import phantom

        refuse_fields(config, config.name)
        print(GENERATED.format(config.name), flush=True)
        for field in ("splits", "folds", "resplit"):
            if value := getattr(config, field):
                raise UserError(f"data.{field}={value!r} is not for data.name={config.name}: a phantom "
                                "splits its patients by data.split_seed")  # fmt: skip
        return positive_second(_limited(phantom.load(config), config), config.positive)
    sets = assemble(read_listing(config), config, progress)
    if given.path == config.path:
        return sets
    # Said and recorded is the bucket's address, not that of the copy on this machine.
    origin = sets["train"].origin
    splits_from = origin.splits_from.replace(config.path, given.path)
    origin = replace(origin, source=f"{given.name} {given.path}", splits_from=splits_from)
    return {name: replace(each, origin=origin) for name, each in sets.items()}


def from_arrays(images: Any, labels: Any, config: DataConfig) -> Splits:
    """Split arrays held in memory as `load` splits files; `config.name` and `.path` are not read.

    Args:
        images: Uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3), or a sequence of images of any sizes.
        labels: (N,) or (N, 1) integers or text; (N, L > 1) zeros, ones, NaN for unknown; see `read_arrays`.

    Raises:
        UserError: another shape or kind of numbers, or counts that differ.
    """
    check(config)
    refuse_fields(replace(config, labels="auto"), "a pair of arrays")
    return assemble(read_arrays(images, labels, config.labels), config)


def check(config: DataConfig) -> None:
    """Refuse values that no source could use.

    Raises:
        UserError: naming the field.
    """
    typed(DataConfig, config, "data.")
    if config.path and config.name in PHANTOMS:
        if not (remote.is_remote(config.path) or Path(config.path).exists()):
            raise UserError(f"data.path={config.path!r} does not exist, seen from {str(Path.cwd())!r}")
        raise UserError(
            f"data.path={config.path!r} is not read by data.name={config.name}, which generates its "
            "images; name the kind of source in data.name (folder, csv, npz, dicom, nifti, record), or leave "
            "data.path out"
        )
    if config.split_rule not in (1, 2):
        raise UserError(f"data.split_rule={config.split_rule} is neither 2 nor, for runs begun with it, 1")
    if config.val_fraction + config.test_fraction >= 1:
        raise UserError("data.val_fraction and data.test_fraction leave nothing to train on")
    if config.folds and (config.folds < 3 or not 0 <= config.fold < config.folds):
        raise UserError(
            f"data.folds={config.folds} with data.fold={config.fold}: folds are 3 or more (train, val and "
            "test need one each), and fold counts from 0"
        )
    if config.fold and not config.folds:
        raise UserError(f"data.fold={config.fold} is read where data.folds says how many")
    if config.train_share < 1 and config.train_limit:
        raise UserError(
            f"data.train_share={config.train_share} must be above 0 and up to 1, and 1 with data.train_limit"
        )


def assemble(listing: Listing, config: DataConfig, progress: Progress | None = None) -> Splits:
    """Read a listing's images, split them, and build the data sets.

    Args:
        listing: The source's examples.
        config: Decoding, splitting and copy-search options.
        progress: Called with (done, total) after each image. None prints a line every few seconds.

    Raises:
        UserError: an image cannot be read, a split has no images or lacks a class in training, or a
            group or a copy of an image straddles splits that the user made.
    """
    examined = examine(listing, config, progress)
    # The split file is written only after both checks pass.
    refuse_leaks(examined, config)
    refuse_missing(examined.listing, examined.splits)
    if examined.conflicts:
        print(
            f"warning: {len(examined.conflicts)} images stand under two labels, as "
            f"{examined.conflicts[0].line()}; `ttl-jax leaks` lists them",
            flush=True,
        )
    if config.splits and not Path(config.splits).exists():
        if config.folds:
            fold_of = fold_of_each(examined.listing, config, frozenset())
            write_folds(config.splits, examined.listing.ids, fold_of, listing.source)
        else:
            write_splits(config.splits, examined.listing.ids, examined.splits, listing.source)
        print(f"wrote the split to {config.splits}", flush=True)
    shown = dict(examined.listing.columns) if config.keep_ids else shareable(examined.listing.columns)
    whole = Dataset(
        name="all",
        labels=examined.listing.labels,
        ids=examined.listing.ids,
        groups=examined.listing.groups,
        class_names=listing.class_names,
        task=listing.task,
        images=examined.images,
        columns=shown,
        skipped=examined.skipped,
        origin=Origin(
            source=f"{config.name} {config.path}" if config.path else listing.source,
            splits_from=examined.splits_from,
            notes=listing.notes,
            # The groups of a prepared folder stay what they are under another key.
            key="" if listing.drawn_by is None or config.name == "record" else key_digest(),
            kept_names=config.keep_ids or listing.numbered,
            listed=listed(listing, config),
        ),
        pixels=examined.pixels,
    )
    places = {name: np.flatnonzero(examined.splits == name) for name in SPLITS}
    sets = {name: whole.take(members, name) for name, members in places.items()}
    drawn_by = examined.listing.drawn_by
    limited = _limited(sets, config, None if drawn_by is None else drawn_by[places["train"]])
    # Last of all, so that no split depends on which class is called the positive one.
    return positive_second(limited, config.positive)


def _limited(sets: Splits, config: DataConfig, drawn_by: np.ndarray | None = None) -> Splits:
    """Return the data sets with `train_limit` or `train_share` applied; held-out splits stay whole.

    Args:
        sets: All splits.
        config: Reads train_limit, train_share and split_seed.
        drawn_by: Names of the training groups to draw by, (N,), where they are others than the groups.
    """
    training = sets["train"]
    wanted = config.train_limit or round(config.train_share * len(training))
    if wanted >= len(training):
        return sets
    names = training.groups if drawn_by is None else drawn_by
    chosen = limit(training.labels, names, wanted, config.split_seed)
    limited = training.take(chosen)
    share = f"train_share={config.train_share}"
    field = f"train_limit={config.train_limit}" if config.train_limit else share
    for noun, kind, absent in lacking(limited.labels, limited.class_names, limited.task):
        raise UserError(
            f"data.{field} leaves {noun} {absent[0]!r} without a training {kind}; raise it, or try another "
            "data.split_seed"
        )
    if len(chosen) != wanted:
        print(
            f"data.{field}: {len(chosen)} of {len(training)} training images are used, as groups stay whole",
            flush=True,
        )
    return {**sets, "train": limited}
