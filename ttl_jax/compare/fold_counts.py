"""The folds of each data set: 0 where it is compared on one split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ttl_jax.compare import cells
from ttl_jax.compare.cells import Setting
from ttl_jax.compare.config import CompareConfig, strategy_texts
from ttl_jax.config.data import DataConfig, data_config, generated
from ttl_jax.data.sources.registry import read_listing
from ttl_jax.system.json_object import read_object
from ttl_jax.system.whole_file import write_json

FOLDS = 5  # of "auto"
SMALL = 1000  # training images below which one split says little


def resolve(config: CompareConfig, workdir: Path) -> dict[str, int]:
    """Folds of every data set; 0 is one split.

    A number holds for all. "auto" is `FOLDS` folds of whole groups for a data set that leaves fewer than
    `SMALL` training images (after train_limit and train_share) and has no test split of its own, and one
    split for any other. It is decided once and kept in WORKDIR/folds.json; a comparison that was begun
    before there was such a file goes on with one split.
    """
    names = config.compare.datasets or ("",)
    if config.compare.folds != "auto":
        return dict.fromkeys(names, int(config.compare.folds))
    path = workdir / "folds.json"
    known: dict[str, int] = read_object(path) if path.exists() else {}
    cells_there = workdir / "cells"
    begun = cells_there.exists() and not path.exists() and not any(cells_there.glob("*/*/*/fold*"))
    for name in names:
        if name not in known:
            images = None if begun else _small(_data(config, name))
            known[name] = 0 if images is None else FOLDS
            if images is not None:
                print(
                    f"{name or 'data'}: {FOLDS} folds of whole groups, as there are about {images} training "
                    "images and no test split of their own; compare.folds=0 keeps to one split",
                    flush=True,
                )
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(path, known)
    return {name: known[name] for name in names}


def fold_share(folds: int) -> float:
    """n_test / n_train of a fold, for `evaluation.fold_difference`: one fold is tested, one validates.

    A limit of the training images does not enter. The ratio stands for how far the folds' training sets
    are the same, and those that are limited are drawn from the whole ones in one order: they overlap as
    these do.
    """
    return 1 / (folds - 2)


def _data(config: CompareConfig, name: str) -> DataConfig:
    setting = Setting(name, config.compare.models[0], strategy_texts(config)[0])
    return data_config(cells.cell_config(config, cells.final_cells(config, setting, 1.0)[0]).data)


def _small(settings: DataConfig) -> int | None:
    """About how many training images there are, if these are few and the split is made here."""
    given = settings.folds or (settings.splits and Path(settings.splits).exists())
    if generated(settings.name) or given:
        return None
    listing = read_listing(settings)
    if not settings.resplit and (listing.splits == "test").any():
        return None
    if len(np.unique(listing.groups)) < FOLDS:
        return None
    held_out = settings.test_fraction
    if settings.resplit or not (listing.splits == "val").any():
        held_out += settings.val_fraction
    images = round(len(listing.ids) * (1 - held_out) * settings.train_share)
    images = min(images, settings.train_limit or images)
    return images if images < SMALL else None
