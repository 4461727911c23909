"""Requirements of a split, checked before training: no leaks, no empty split, every class in train."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ttl_jax.config.data import DataConfig
from ttl_jax.data.dataset import Task
from ttl_jax.data.sources.listing import SPLITS, Listing
from ttl_jax.data.splits.examine import Examined
from ttl_jax.errors import UserError


def refuse_leaks(found: Examined, config: DataConfig) -> None:
    """Refuse a split that leaks, or only print it if `data.allow_leaks` is set.

    Raises:
        UserError: naming the first leak and the ways out.
    """
    if not found.leaks:
        return
    origin = config.splits if config.splits and Path(config.splits).exists() else found.listing.splits_from
    sentence = f"the splits of {origin} leak: {found.summary()}, the first: {found.leaks[0].line()}"
    if not config.allow_leaks:
        raise UserError(
            f"{sentence}; `ttl-jax leaks` lists all, data.resplit=True splits anew without, or set "
            "data.allow_leaks=True and know that the score is too good"
        )
    print(f"warning: {sentence}; allowed by data.allow_leaks", flush=True)


def refuse_missing(listing: Listing, splits: np.ndarray) -> None:
    """Refuse an empty split and what train cannot teach; print what val or test lack.

    Raises:
        UserError: naming the split, the class or the label.
    """
    for name in SPLITS:
        if name not in splits:
            counts = np.unique(listing.groups, return_counts=True)[1]
            largest, total = int(counts.max()), int(counts.sum())
            one = f" (data.group; {largest} of {total} images are of one)" if 2 * largest >= total else ""
            raise UserError(
                f"split {name} of {listing.source} has no images; it needs more images, more groups{one}, "
                "or another split"
            )
    remedy = {"class": "remove the class", "label": "leave the label out"}
    for name in SPLITS:
        for noun, kind, absent in lacking(listing.labels[splits == name], listing.class_names, listing.task):
            if name == "train":
                raise UserError(
                    f"{noun} {absent[0]!r} of {listing.source} has no {kind} in train; add some, or "
                    f"{remedy[noun]}"
                )
            print(f"note: {name} has no {kind} of {', '.join(absent)}", flush=True)


def lacking(
    labels: np.ndarray, class_names: tuple[str, ...], task: Task
) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the classes, positives or negatives that these examples lack.

    Args:
        labels: Int class numbers (N,), or float (N, L) with NaN = unknown.
        class_names: Names of the classes or labels.
        task: "multiclass" or "multilabel".

    Yields:
        ("class", "image", names without any); ("label", "positive" or "negative", names without).
    """
    if task == "multiclass":
        present = [("class", "image", np.bincount(labels, minlength=len(class_names)) > 0)]
    else:
        present = [("label", kind, (labels == value).any(axis=0))
                   for value, kind in ((1, "positive"), (0, "negative"))]  # fmt: skip
    for noun, kind, has_any in present:
        if not has_any.all():
            yield noun, kind, [class_names[place] for place in np.flatnonzero(~has_any)]
