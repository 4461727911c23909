"""Reading, splitting and leak search of a listing; only unreadable images are refused here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ttl_jax.config.data import DataConfig
from ttl_jax.data.dataset import ImageReader, SubsetReader
from ttl_jax.data.images.cache import DecodingReader, read_all
from ttl_jax.data.images.decode import Geometry, whole
from ttl_jax.data.progress_lines import Progress
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
        splits_from: The origin of the splits, in words.
        pixels: Digests of the decoded images, uint64 (N,); 1 where an image shows one colour.
    """

    listing: Listing
    images: ImageReader
    splits: np.ndarray
    copies: Copies
    leaks: list[Finding]
    conflicts: list[Finding]
    skipped: tuple[str, ...]
    splits_from: str
    pixels: np.ndarray

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
    _refuse_one_colour(listing, hashes, config)
    copies = find_copies(
        hashes, checked.thumbnails[kept], checked.contents[kept], config.duplicates, config.likeness
    )
    # Join groups before splitting: copies of an image must land in one split.
    joined = replace(
        listing,
        groups=merge_groups(listing.groups, copies),
        drawn_by=None if listing.drawn_by is None else merge_groups(listing.drawn_by, copies),
    )
    kept_together = _kept_together(copies, listing.groups, config)
    if config.folds or not (listing.splits != "").any():
        _refuse_one_group(listing, joined, config)
    if config.folds:
        fold_of = fold_of_each(joined, config, left_out)
        splits = splits_of_fold(fold_of, config.folds, config.fold, listing.splits == "test")
        splits_from = f"fold {config.fold} of {config.folds} by data.split_seed={config.split_seed}"
        splits_from += f": {kept_together}"
    elif config.splits and Path(config.splits).exists():
        splits, splits_from = read_splits(config.splits, listing.ids, left_out), config.splits
    else:
        splits, splits_from = _fill(joined, config, kept_together)
    return Examined(
        listing=joined,
        images=SubsetReader(checked.reader, kept),
        splits=splits,
        copies=copies,
        leaks=find_leaks(listing.ids.tolist(), listing.images, listing.groups, splits, copies),
        conflicts=find_conflicts(listing.ids.tolist(), listing.labels, listing.class_names, splits, copies),
        skipped=skipped,
        splits_from=splits_from,
        pixels=np.array([int.from_bytes(digest[:8] or b"\1", "little") for digest in hashes], np.uint64),
    )


def _refuse_one_colour(listing: Listing, hashes: Sequence[bytes], config: DataConfig) -> None:
    """Refuse images of one colour if all are, and print their number if some are.

    Args:
        listing: The readable examples.
        hashes: Digests of their pixels; an empty one is of an image of one colour.
        config: Reads name and image_size.
    """
    flat = [place for place, digest in enumerate(hashes) if not digest]
    if not flat:
        return
    first = listing.where[flat[0]]
    if len(flat) < len(hashes):
        print(f"note: {len(flat)} of {len(hashes)} images show one colour throughout, the first is {first}")
        return
    why = "look at the files"
    if isinstance(listing.images[0], Path) and config.name in ("folder", "csv"):
        clear = whole(listing.images[0]).mode == "RGBA"
        why = "they are transparent throughout: save them without alpha" if clear else why
    elif config.name in ("dicom", "nifti"):
        why = "data.window=range shows all values, where the window lies beside them"
    raise UserError(
        f"all {len(flat)} images of {listing.source} show one colour, the first is {first}; {why}"
    )


def _refuse_one_group(listing: Listing, joined: Listing, config: DataConfig) -> None:
    """Refuse data of which no split can be made: all images are of one patient, or copies of each other."""
    count = len(listing.ids)
    if count < 2 or len(set(joined.groups.tolist())) > 1:
        return
    if len(set(listing.groups.tolist())) > 1:
        raise UserError(
            f"all {count} images of {listing.source} count as copies of each other, so that no split keeps "
            "them apart; data.duplicates=exact joins those of the same pixels alone"
        )
    if config.name == "dicom":
        what = f"have one {config.group or 'PatientID'}, as anonymised exports do"
        remedy = "set data.group=StudyInstanceUID, SeriesInstanceUID or file"
    else:
        what = "are of one group (patient)"
        remedy = (
            "name another column in data.group, or leave it out" if config.group else "add some of others"
        )
    raise UserError(f"all {count} images of {listing.source} {what}, so that no split can be made; {remedy}")


def _kept_together(copies: Copies, groups: np.ndarray, config: DataConfig) -> str:
    """Return what a split made here keeps together, as "39 copies kept together, 14 groups whole".

    Args:
        copies: Pairs of copies.
        groups: Groups of the images as they were listed, (N,).
        config: Reads duplicates.
    """
    members = np.bincount(clusters(len(groups), copies.first, copies.second), minlength=1)
    several = int(members[members > 1].sum())
    said = f"{several} copies kept together" if several else "no copies found"
    said = "copies not looked for" if config.duplicates == "ignore" else said
    count = len(set(groups.tolist()))
    return said + (f", {count} groups whole" if count < len(groups) else "")


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
        labels, groups = listing.labels[pool], listing.drawn_by_or_groups[pool]
        fold_of[pool] = assign_folds(labels, groups, config.folds, config.split_seed)
    return fold_of


def _fill(listing: Listing, config: DataConfig, kept_together: str) -> tuple[np.ndarray, str]:
    """Split what the source left unsplit; a missing val or test comes out of train alone.

    Returns:
        (N,) split names, and the origin of the split in words.
    """
    own = (listing.splits != "").any()
    splits = listing.splits.copy() if own else np.full(len(listing.ids), "train", dtype="U5")
    wanted = {"test": config.test_fraction, "val": config.val_fraction}
    lacking = {name: share for name, share in wanted.items() if name not in splits}
    pool = np.flatnonzero(splits == "train")
    own_split = f"the data's own, {listing.splits_from or 'as listed'}"
    if not lacking or not len(pool):
        return splits, own_split
    if config.split_rule == 1:
        raise UserError(
            f"data.split_rule=1 is gone, and {listing.source} has no {' and no '.join(lacking)}: this run's "
            "split cannot be made again; start anew with another --workdir or --fresh"
        )
    names = listing.drawn_by_or_groups[pool]
    splits[pool] = hold_out(listing.labels[pool], names, lacking, config.split_seed)
    made = f"made anew by data.split_seed={config.split_seed}: {kept_together}"
    if own:
        print(
            f"{listing.source} has no {' and no '.join(lacking)}: taken from train by "
            f"data.split_seed={config.split_seed}",
            flush=True,
        )
        made = f"{own_split}; {' and '.join(lacking)} {made}"
    return splits, made
