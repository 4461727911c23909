"""Another data set as a finished run sees it: images at the run's size, classes by the run's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ttl_jax import data
from ttl_jax.config import DataConfig
from ttl_jax.data.dataset import Dataset, Origin, SubsetReader
from ttl_jax.data.images.cache import read_all
from ttl_jax.data.load import check
from ttl_jax.data.pseudonyms import shareable
from ttl_jax.data.sources.listing import READS, SPLITS, Listing
from ttl_jax.data.sources.npz import read_arrays
from ttl_jax.data.sources.registry import PHANTOMS, guess_source, read_listing, source
from ttl_jax.data.splits.copies import find_copies, merge_groups
from ttl_jax.data.splits.examine import refuse_or_report
from ttl_jax.errors import UserError, nearest
from ttl_jax.training.records.signature import Signature
from ttl_jax.typing import Shaped

_OF_SOURCE = ("window", "slices", "plane", "spacing")  # of the run, where it read such files too
ALL = "all"
ARRAYS = "arrays"  # data.name of a pair of arrays


def as_the_run(config: DataConfig, known: Signature) -> DataConfig:
    """The config with the run's own size and way of decoding.

    Args:
        config: names the data.
        known: the run's signature.
    """
    values = {"image_size": known.geometry.size, "resize": known.geometry.resize,
              "pad_value": known.geometry.pad_value}  # fmt: skip
    if config.name in (*PHANTOMS, ARRAYS):
        return replace(config, **values)  # type: ignore[arg-type]
    reads = source(config.name).reads
    if set(_OF_SOURCE) & set(_reads(known.source.kind)):
        values |= {name: getattr(known.source, name) for name in _OF_SOURCE if name in reads}
    if known.geometry.depth and "depth" in reads:
        values |= {"depth": known.geometry.depth, "slices": "volume"}
    return replace(config, **values)  # type: ignore[arg-type]


def refuse_geometry(typed: Sequence[str], config: DataConfig, known: Signature) -> None:
    """Refuse a size, or a way to it, that is not the run's.

    Args:
        typed: names of the fields that the user gave.
        config: their values.
        known: the run's signature.

    Raises:
        UserError: naming the field.
    """
    ours = as_the_run(config, known)
    for name in typed:
        if getattr(ours, name) != getattr(config, name):
            raise UserError(
                f"--config.data.{name}={getattr(config, name)!r}: the run was trained with "
                f"{getattr(ours, name)!r}, and is evaluated so; leave it out"
            )


def _reads(kind: str) -> tuple[str, ...]:
    """The fields that the source trained on reads; none where it was generated, or is not here."""
    try:
        return () if kind in PHANTOMS else source(kind).reads
    except UserError:
        return READS


def config_of(given: Any) -> DataConfig:
    """The config that names a data set: itself, a path whose kind is guessed, or that of a pair of arrays."""
    if isinstance(given, DataConfig):
        return given
    if isinstance(given, tuple):
        return DataConfig(name=ARRAYS)
    return DataConfig(name=guess_source(given), path=str(given))


def read_external(given: Any, config: DataConfig, known: Signature, split: str = ALL) -> Dataset:
    """Read a labelled data set for evaluation alone: no split is made, a class may be missing.

    Args:
        given: the pair (images, labels) where the config is that of arrays.
        config: names the data; see `as_the_run`.
        known: the run's signature.
        split: "all", or the one of the data's own splits that is to be read ("shifted" too, of a phantom).

    Raises:
        UserError: anything about the data that the user has to mend.
    """
    check(config)
    if config.name == ARRAYS:
        return _decoded(read_arrays(*given), config, known)
    if config.name in PHANTOMS:
        sets = data.load(config)
        if split != ALL and split not in sets:
            raise UserError(f"--split={split!r}{nearest(split, (ALL, *sets))}")
        return _joined([sets[name] for name in (SPLITS if split == ALL else (split,))])
    listing = read_listing(config)
    if split != ALL:
        own = np.flatnonzero(listing.splits == split)
        if not len(own):
            there = tuple(name for name in SPLITS if name in listing.splits)
            has = f"it has {', '.join(there)}" if there else "it has no splits of its own; leave --split out"
            raise UserError(f"--split={split!r}: {listing.source} has no such split; {has}")
        listing = listing.take(own)
    return _decoded(listing, config, known)


def _decoded(listing: Listing, config: DataConfig, known: Signature) -> Dataset:
    """Read the images of a listing; copies of an image share a group."""
    geometry = known.geometry
    if bool(geometry.depth) != listing.volumes:
        takes, has = ("volumes", "flat images") if geometry.depth else ("flat images", "volumes")
        raise UserError(f"{listing.source} has {has}, and the run takes {takes}; see data.slices")
    checked = read_all(listing.images, listing.where, geometry, config.cache_gb)
    skipped = refuse_or_report(listing, checked.faults, config.on_error)
    kept = np.array([place for place in range(len(listing.ids)) if place not in checked.faults], np.int64)
    listing = listing.take(kept)
    copies = find_copies(
        [checked.hashes[place] for place in kept], checked.thumbnails[kept], checked.contents[kept],
        config.duplicates, config.likeness,
    )  # fmt: skip
    return Dataset(
        name="external",
        labels=listing.labels,
        ids=listing.ids,
        groups=merge_groups(listing.groups, copies),
        class_names=listing.class_names,
        task=listing.task,
        images=SubsetReader(checked.reader, kept),
        columns=dict(listing.columns) if config.keep_ids else shareable(listing.columns),
        skipped=skipped,
        origin=Origin(kept_names=config.keep_ids or listing.numbered),
    )


def _joined(sets: list[Dataset]) -> Dataset:
    """Several splits in memory as one."""
    first = sets[0]
    if len(sets) == 1:
        return first
    images = np.concatenate([each.images.read(np.arange(len(each))) for each in sets])
    labels, ids, groups = (
        np.concatenate([getattr(each, name) for each in sets]) for name in ("labels", "ids", "groups")
    )
    return replace(
        first, name="external", labels=labels, ids=ids, groups=groups, images=data.ArrayReader(images)
    )


def with_classes_of(dataset: Dataset, known: Signature, classes: Mapping[str, str]) -> Dataset:
    """The data set with the run's classes, in the run's order.

    Args:
        dataset: its classes have names of its own.
        known: the run's signature.
        classes: {a name of the data set: the run's name of the same}; others are the same by name.

    Raises:
        UserError: a class that the run does not know, or another form of labels.
    """
    ours, theirs = known.class_names, dataset.class_names
    forms = {"multiclass": "one class an image", "multilabel": "several labels an image"}
    if dataset.task != known.task:
        raise UserError(
            f"the data have {forms[dataset.task]}, and the run {forms[known.task]}: see data.label"
        )
    for name in classes:
        if name not in theirs:
            raise UserError(
                f"--classes={name}={classes[name]}: the data have no class {name!r}{nearest(name, theirs)}"
            )
    names = [classes.get(name, name) for name in theirs]
    for name, mapped in zip(theirs, names, strict=True):
        if mapped not in ours:
            raise UserError(
                f"class {mapped!r} of the data is none of the run's ({', '.join(ours)}): say which of them "
                f"it is, as --classes='{name}={ours[0]}'"
            )
    absent = [name for name in ours if name not in names]
    if absent:
        print(f"note: the data have no {', '.join(absent)}", flush=True)
    places = np.array([ours.index(name) for name in names])
    if known.task == "multiclass":
        labels: Shaped[np.ndarray, "..."] = places.astype(np.int32)[dataset.labels]
    else:
        labels = _columns(dataset.labels, places, names, len(ours))
    return replace(dataset, labels=labels, class_names=ours)


def _columns(
    labels: Shaped[np.ndarray, "n l"], places: Shaped[np.ndarray, "l"], names: list[str], count: int
) -> Shaped[np.ndarray, "n c"]:
    """The columns of the run's labels; unknown where the data have none of the name."""
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"two labels of the data are {twice!r} by --classes; name one")
    filled = np.full((len(labels), count), np.nan, np.float32)
    filled[:, places] = labels
    return filled
