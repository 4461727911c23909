"""RadFusion: CT angiographies with and without pulmonary embolism, as volumes (Zhou et al. 2021).

Layout: multimodalpulmonaryembolismdataset/ with Labels.csv (idx, label 0 or 1, pe_type, split) and
IDX.npy in the folders 0 to 7: int16 (slices, rows, columns) in Hounsfield units. A study is named by
idx, one patient's; the owner's split is kept.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ttl_jax.data.images.decode import ImageSource, Stack, UnreadableImageError
from ttl_jax.data.published.layout import need, published
from ttl_jax.data.sources.csv_file import read_csv
from ttl_jax.data.sources.frames import Unreadable
from ttl_jax.data.sources.listing import SPLIT_ALIASES, Listing, make_listing
from ttl_jax.data.sources.npy_volume import NpySlice, slices_of
from ttl_jax.data.sources.window import Window
from ttl_jax.errors import UserError

CLASSES = ("no embolism", "embolism")
WINDOW = Window(400, 1000)  # Hounsfield units; PENet's (Huang et al. 2020)


@published("radfusion", "depth")
def read_radfusion(folder: Path) -> Listing:
    """List one volume a study; column `pe_type` ("central", "segmental", ...).

    Raises:
        UserError: Labels.csv is missing or not as published, or no file of a study.
    """
    table = read_csv(str(need(folder / "Labels.csv", "RadFusion")))
    studies = table.column("idx", "image")
    labels, splits = table.column("label", "label"), table.column("split", "split")
    kinds = table.columns["pe_type"] if "pe_type" in table.columns else [""] * len(studies)
    files = {file.stem: file for file in sorted(folder.rglob("*.npy"))}
    first: dict[str, int] = {}
    for row, study in enumerate(studies):
        before = first.setdefault(study, row)
        if (labels[row], splits[row]) != (labels[before], splits[before]):
            raise UserError(
                f"{table.at(row)} gives study {study} another label or split than row {table.rows[before]}"
            )
        if labels[row] not in ("0", "1") or splits[row].lower() not in SPLIT_ALIASES:
            raise UserError(
                f"{table.at(row)} has label {labels[row]!r} and split {splits[row]!r}; fetch the table anew"
            )
        if study not in files:
            raise UserError(
                f"{table.at(row)} names study {study}, but {folder} holds no {study}.npy; unpack all archives"
            )
    rows = list(first.values())
    listing = make_listing(
        str(folder),
        [_volume(files[study]) for study in first],
        [str(files[study]) for study in first],
        list(first),
        np.array([int(labels[row]) for row in rows]),
        CLASSES,
        splits=[SPLIT_ALIASES[splits[row].lower()] for row in rows],
    )
    return replace(
        listing, splits_from=str(table.path), columns={"pe_type": np.array([kinds[row] for row in rows])}
    )


def _volume(path: Path) -> ImageSource:
    try:
        count = slices_of(path)
    except UnreadableImageError as error:
        return Stack((Unreadable(str(error)),))
    return Stack(tuple(NpySlice(path, number, WINDOW) for number in range(count)))
