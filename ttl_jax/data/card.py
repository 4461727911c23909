"""Summary of the data for a report: sizes, classes, skipped images, and that no patient stands in two
splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax.config import DataConfig
from ttl_jax.data.dataset import Dataset
from ttl_jax.data.sources.registry import GUESSED, PHANTOMS
from ttl_jax.data.splits.copies import MODES


def card(sets: Mapping[str, Dataset]) -> dict[str, Any]:
    """Sum the splits up.

    {"splits": {split: {"examples", "groups", "classes": {name: count}}}, "straddling": groups, "skipped",
    "source", "splits_from", "notes", "positive"}; these as in `Origin` and `Dataset`.

    "straddling" counts groups (patients) that stand in more than one of the splits; "skipped" has a
    sentence for each image of the whole data set that could not be read (data.on_error=skip).
    """
    splits = {}
    for name, split in sets.items():
        if split.task == "multilabel":
            counts = np.nansum(split.labels, axis=0)
        else:
            counts = np.bincount(split.labels, minlength=len(split.class_names))
        splits[name] = {
            "examples": len(split),
            "groups": len(set(split.groups.tolist())),
            "classes": {label: int(count) for label, count in zip(split.class_names, counts, strict=True)},
        }
    members = [set(split.groups.tolist()) for split in sets.values()]
    everyone = set().union(*members)
    return {
        "splits": splits,
        "straddling": sum(sum(group in each for each in members) > 1 for group in everyone),
        "skipped": list(dict.fromkeys(line for split in sets.values() for line in split.skipped)),
        **_origin(next(iter(sets.values()))),
    }


def _origin(split: Dataset) -> dict[str, Any]:
    return {
        "source": split.origin.source,
        "splits_from": split.origin.splits_from,
        "notes": list(split.origin.notes),
        "positive": split.positive,
    }


def title(config: DataConfig) -> str:
    """Return the name of a data set for tables: a preset's own, else the name of its file or folder."""
    if not config.path or config.name not in GUESSED:
        return config.name
    place = Path(config.path)
    name = place.stem if place.suffix.lower() == ".npz" else place.name
    if config.name == "csv" and place.parent.name:  # many are called metadata.csv
        name = f"{place.parent.name}/{name}"
    return f"{name}, split anew" if config.resplit else name


def looked_for(config: DataConfig) -> dict[str, str]:
    """Return {"copies": method of the search for copies}; {} for generated images, which have none.

    Args:
        config: The `data` part of a run's config.
    """
    return {} if config.name in PHANTOMS else {"copies": MODES[config.duplicates]}
