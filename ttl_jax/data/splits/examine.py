"""Reading, splitting and leak search of a listing; only unreadable images are refused here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ttl_jax.config.data import DataConfig
from ttl_jax.data.dataset import ImageReader, SubsetReader
from ttl_jax.data.images.cache import DecodingReader, read_all
from ttl_jax.data.images.decode import Geometry
from ttl_jax.data.progress import Progress
from ttl_jax.data.sources.listing import SPLITS, Listing, no_splits
from ttl_jax.data.splits.copies import Copies, clusters, find_copies, merge_groups
from ttl_jax.data.splits.folds import assign_folds, splits_of_fold
from ttl_jax.data.splits.leaks import Finding, find_conflicts, find_leaks, leaking_images, summary
from ttl_jax.data.splits.split_file import read_folds, read_splits
from ttl_jax.data.splits.splits import hold_out
from ttl_jax.errors import UserError


@dataclass(frozen=True)
class Examined:
    """A listing whose images were read, split and searched for leaks.

    Attributes:
        listing: The readable examples. Groups that share a copy of an image are joined.
        images: Reader of their pixels.
        splits: Split names, (N,).
        copies: Pairs of copies among them.
        leaks: Groups and copies that stand in two splits.
        conflicts: Images that stand under two labels.
        skipped: One sentence per image left out as unreadable.
    """

    listing: Listing
    images: ImageReader
    splits: np.ndarray
    copies: Copies
    leaks: list[Finding]
    conflicts: list[Finding]
    skipped: tuple[str, ...]

    def summary(self) -> str:
        """Count leaks and conflicts in one clause."""
        return summary([*self.leaks, *self.conflicts], leaking_images(self.splits, self.copies))

    def overview(self) -> str:
        """Sizes of the splits, and the copies within the data as a whole."""
        sizes = ", ".join(f"{name} {int((self.splits == name).sum())}" for name in SPLITS)
        component = clusters(len(self.splits), self.copies.first, self.copies.second)
        members = np.bincount(component) if len(component) else np.zeros(1, int)
        several = members[members > 1]
        exact, altered = int(self.copies.same_pixels.sum()), int(self.copies.altered.sum())
        largest = f", the largest of {members.max()}" if len(several) else ""
        return (
            f"{self.listing.source}: {sizes}; {exact} exact, {len(self.copies) - exact - altered} near and "
            f"{altered} altered pairs of copies, {several.sum()} images in {len(several)} clusters{largest}; "
            f"{len(np.unique(self.listing.groups))} groups after joining copies"
        )


def examine(listing: Listing, config: DataConfig, progress: Progress | None = None) -> Examined:
    """Read a listing's images, split them and look for leaks, without refusing any.

    Args:
        listing: The source's examples.
        config: Decoding, splitting and copy-search options.
        progress: Called with (done, total) after each image. None prints a line every few seconds.

    Raises:
        UserError: an image cannot be read, or the split file is not of these data.
    """
    depth = config.depth if listing.volumes else 0
    geometry = Geometry(config.image_size, config.resize, config.pad_value, depth)
    checked = read_all(listing.images, listing.where, geometry, config.cache_gb, progress=progress)
    if config.name == "nifti" and isinstance(checked.reader, DecodingReader):
        print(
            f"the slices are larger than data.cache_gb={config.cache_gb}, so each is cut from its volume at "
            "every read, which is slow; prepare them once (ttl-jax prepare)",
            flush=True,
        )
    skipped = refuse_or_report(listing, checked.faults, config.on_error)
    kept = np.array([i for i in range(len(listing.ids)) if i not in checked.faults], np.int64)
    left_out = frozenset(listing.ids[i] for i in checked.faults)
    listing = listing.take(kept)
    if config.resplit:
        listing = replace(listing, splits=no_splits(len(kept)))
    hashes = [checked.hashes[i] for i in kept]
    copies = find_copies(
        hashes, checked.thumbnails[kept], checked.contents[kept], config.duplicates, config.likeness
    )
    # Join groups before splitting: copies of an image must land in one split.
    joined = replace(listing, groups=merge_groups(listing.groups, copies))
    if config.folds:
        fold_of = fold_of_each(joined, config, left_out)
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


def refuse_or_report(listing: Listing, faults: Mapping[int, str], on_error: str) -> tuple[str, ...]:
    """Return one sentence per unreadable image; print them if such images are skipped.

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


def fold_of_each(listing: Listing, config: DataConfig, left_out: frozenset[str]) -> np.ndarray:
    """Return each image's fold, read from the split file or made here; -1 for the data's own test split.

    Args:
        listing: The examples, with groups joined by their copies.
        config: Reads folds, split_seed and splits.
        left_out: Ids in the split file that could not be read now.
    """
    fold_of = np.full(len(listing.ids), -1)
    pool = np.flatnonzero(listing.splits != "test")
    if config.splits and Path(config.splits).exists():
        fold_of[pool] = read_folds(config.splits, listing.ids[pool], config.folds, left_out)
    else:
        labels, groups = listing.labels[pool], listing.groups[pool]
        fold_of[pool] = assign_folds(labels, groups, config.folds, config.split_seed)
    return fold_of


def _fill(listing: Listing, config: DataConfig) -> np.ndarray:
    """Split what the source left unsplit; a missing val or test comes out of train alone."""
    own = (listing.splits != "").any()
    splits = listing.splits.copy() if own else np.full(len(listing.ids), "train", dtype="U5")
    wanted = {"test": config.test_fraction, "val": config.val_fraction}
    lacking = {name: share for name, share in wanted.items() if name not in splits}
    pool = np.flatnonzero(splits == "train")
    if not lacking or not len(pool):
        return splits
    if config.split_rule == 1:
        raise UserError(
            f"data.split_rule=1 is gone, and {listing.source} has no {' and no '.join(lacking)}: this run's "
            "split cannot be made again; start anew with another --workdir or --fresh"
        )
    splits[pool] = hold_out(listing.labels[pool], listing.groups[pool], lacking, config.split_seed)
    if own:
        print(
            f"{listing.source} has no {' and no '.join(lacking)}: taken from train by "
            f"data.split_seed={config.split_seed}",
            flush=True,
        )
    return splits
