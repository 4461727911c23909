"""The manifest of a prepared folder: every example, and what it was made from. Read by record.py."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

import numpy as np

from ttl_jax.config.data import DataConfig
from ttl_jax.data.images.decode import Stack
from ttl_jax.data.prepared.shard import Shard
from ttl_jax.data.sources.listing import SPLITS, Listing
from ttl_jax.data.sources.record import FORMAT
from ttl_jax.system import remote

# What makes a prepared folder another one.
SOURCE_FIELDS = (
    "name", "path", "root", "image", "label", "group", "split", "window", "slices", "plane", "spacing",
)  # fmt: skip


def source_fields(config: DataConfig) -> dict[str, Any]:
    """Return the fields that name the source: `SOURCE_FIELDS` not at their default, with absolute paths."""
    source = {name: getattr(config, name) for name in SOURCE_FIELDS}
    for name in ("path", "root"):
        if source[name] and not remote.is_remote(source[name]):
            source[name] = os.path.abspath(source[name])
    defaults = {item.name: item.default for item in fields(DataConfig)}
    return {name: value for name, value in source.items() if value != defaults[name] or name == "name"}


def make_manifest(
    listing: Listing,
    config: DataConfig,
    shards: list[Shard],
    notes: list[dict[str, Any]],
    faults: dict[int, str],
) -> dict[str, Any]:
    """Return the manifest without its own digest.

    Args:
        listing: Listing of the source.
        config: The config that names the source.
        shards: The shards, in order.
        notes: The note of each shard.
        faults: Position in the listing -> reason why that image is left out.
    """
    kept = listing.take(np.array([i for i in range(len(listing.ids)) if i not in faults], np.int64))
    together = {name: [value for note in notes for value in note[name]] for name in
                ("sha256", "size", "height", "width")}  # fmt: skip
    files = [
        {
            "file": shard.name,
            "records": len(note["sha256"]),
            "bytes": note["bytes"],
            "sha256": note["file_sha256"],
        }
        for shard, note in zip(shards, notes, strict=True)
    ]
    volumes: dict[str, Any] = {}
    if kept.volumes:
        volumes["slices"] = [count for note in notes for count in note["slices"]]
        volumes["millimetres"] = [
            image.millimetres if isinstance(image, Stack) else None for image in kept.images
        ]
    return {
        "format": FORMAT,
        "source": source_fields(config),
        "images": len(kept.ids),
        "skipped": len(faults),
        "groups": len(set(kept.groups.tolist())),
        "task": listing.task,
        "class_names": list(listing.class_names),
        "class_counts": _class_counts(kept),
        "split_counts": {name: int((kept.splits == name).sum()) for name in SPLITS if name in kept.splits},
        "splits_from": listing.splits_from,
        "drawn_by": _drawn_by(kept),
        "shards": files,
        "examples": {
            "id": kept.ids.tolist(),
            "label": _plain(kept.labels),
            "group": kept.groups.tolist(),
            "split": kept.splits.tolist(),
            "sha256": together["sha256"],
            "bytes": together["size"],
            "height": together["height"],
            "width": together["width"],
            **volumes,
        },
        "columns": {name: _plain(values) for name, values in kept.columns.items()},
    }


def _drawn_by(listing: Listing) -> str:
    """Return what a split of the folder is drawn by: "group", or "content" where groups are keyed hashes."""
    return "group" if np.array_equal(listing.groups, listing.drawn_by_or_groups) else "content"


def _class_counts(listing: Listing) -> dict[str, int]:
    if listing.task == "multilabel":
        counts = (listing.labels == 1).sum(axis=0)
    else:
        counts = np.bincount(listing.labels, minlength=len(listing.class_names))
    return dict(zip(listing.class_names, counts.tolist(), strict=True))


def _plain(values: np.ndarray) -> list[Any]:
    """Replace NaN by null, because JSON has no NaN."""
    if values.dtype.kind != "f":
        return values.tolist()
    holes = np.isnan(values)
    plain = values.astype(object)
    plain[holes] = None
    return plain.tolist()
