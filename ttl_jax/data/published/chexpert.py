"""CheXpert: frontal chest radiographs with 14 labels (Irvin et al. 2019).

Layout: CheXpert-v1.0[-small]/{train,valid}.csv and the images that their column Path names. A label is
1, 0, -1 (uncertain) or empty. The owner's `valid` (radiologists' labels) is the test split here, as the
paper's test set is not published; val is taken from train by patient.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ttl_jax.data.published.layout import need, published, rows
from ttl_jax.data.sources.csv_file import CsvFile, read_csv
from ttl_jax.data.sources.listing import Listing, make_listing
from ttl_jax.errors import UserError

LABELS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other",
    "Fracture", "Support Devices",
)  # fmt: skip
# What -1 becomes. An empty cell is "not mentioned", which the paper trains on as negative.
POLICIES = {"zeros": 0.0, "ones": 1.0, "ignore": np.nan}
# The two groups of labels of the TTL paper's experiments with CheXpert as the source.
GROUPS = {
    "mix": LABELS,
    "low": ("Lung Opacity", "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pleural Effusion",
            "Pleural Other"),
    "high": ("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Pneumothorax",
             "Fracture", "Support Devices"),
}  # fmt: skip
_PATIENT = re.compile(r"patient\d+")


@published("chexpert")
def read_chexpert(folder: Path, uncertain: str = "ignore", group: str = "mix") -> Listing:
    """List the frontal images, grouped by patient.

    Args:
        folder: CheXpert-v1.0 or CheXpert-v1.0-small.
        uncertain: Treatment of uncertain labels: "zeros" (U-Zeros), "ones" (U-Ones) or "ignore" (U-Ignore:
            unknown).
        group: Key of GROUPS; selects the labels to read.

    Raises:
        UserError: a table is missing or not as published.
    """
    names = GROUPS[group]
    files: list[Path] = []
    labels: list[np.ndarray] = []
    groups: list[str] = []
    splits: list[str] = []
    for name, split in (("train.csv", "train"), ("valid.csv", "test")):
        table = read_csv(str(need(folder / name, "CheXpert")))
        views = table.column("Frontal/Lateral", "label")
        values = np.stack([_values(table, label, uncertain) for label in names], axis=1)
        for row, path in enumerate(table.column("Path", "image")):
            patient = _PATIENT.search(path)
            if patient is None:
                raise UserError(f"{table.at(row)} names {path!r}, which holds no patient; fetch it anew")
            if views[row] != "Frontal":
                continue
            # Path begins with the folder's published name, whatever the user calls it.
            files.append(folder / Path(*Path(path).parts[1:]))
            labels.append(values[row])
            groups.append(patient[0])
            splits.append(split)
    listing = make_listing(*rows(folder, files), np.stack(labels), names, groups=groups, splits=splits)
    return replace(listing, splits_from="train.csv and valid.csv")


def _values(table: CsvFile, label: str, uncertain: str) -> np.ndarray:
    known = {"": 0.0, "0.0": 0.0, "0": 0.0, "1.0": 1.0, "1": 1.0, "-1.0": POLICIES[uncertain],
             "-1": POLICIES[uncertain]}  # fmt: skip
    cells = table.column(label, "label")
    for row, cell in enumerate(cells):
        if cell not in known:
            raise UserError(f"{table.at(row)} has {cell!r} for {label!r}, not 1, 0, -1 or nothing")
    return np.array([known[cell] for cell in cells], np.float32)


for _uncertain in POLICIES:
    for _group in GROUPS:
        published(f"chexpert/{_uncertain}/{_group}")(
            partial(read_chexpert, uncertain=_uncertain, group=_group)
        )
