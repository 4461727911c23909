"""The skin lesion challenges ISIC 2019 and 2020, training parts (the test parts have no labels).

2019 (Tschandl et al. 2018; Codella et al. 2018; Combalia et al. 2019): ISIC_2019_Training_Input/*.jpg,
ISIC_2019_Training_GroundTruth.csv with one column a class, ISIC_2019_Training_Metadata.csv with
lesion_id (empty for some: these stand for themselves).
2020 (Rotemberg et al. 2021): train/*.jpg, ISIC_2020_Training_GroundTruth.csv with patient_id, target.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ttl_jax.data.published.layout import need, published, rows
from ttl_jax.data.sources.csv_file import read_csv
from ttl_jax.data.sources.listing import Listing, make_listing
from ttl_jax.errors import UserError

CLASSES_2019 = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")


@published("isic2019")
def read_isic2019(folder: Path) -> Listing:
    """List the 25,331 training images, grouped by lesion."""
    truth = read_csv(str(need(folder / "ISIC_2019_Training_GroundTruth.csv", "ISIC 2019")))
    about = read_csv(str(need(folder / "ISIC_2019_Training_Metadata.csv", "ISIC 2019")))
    names = truth.column("image", "image")
    table = np.array([[float(cell) for cell in truth.column(name, "label")] for name in CLASSES_2019]).T
    for row in np.flatnonzero((table == 1).sum(axis=1) != 1).tolist():
        raise UserError(
            f"{truth.at(row)} has not one class of {', '.join(CLASSES_2019)}; fetch the table anew"
        )
    lesions = dict(zip(about.column("image", "image"), about.column("lesion_id", "group"), strict=True))
    images = need(folder / "ISIC_2019_Training_Input", "ISIC 2019")
    files = [images / f"{name}.jpg" for name in names]
    groups = [(lesions[name] if name in lesions else "") or name for name in names]
    return make_listing(*rows(folder, files), table.argmax(axis=1), CLASSES_2019, groups=groups)


@published("isic2020")
def read_isic2020(folder: Path) -> Listing:
    """List the 33,126 training images, grouped by patient; the class is benign or malignant."""
    truth = read_csv(str(need(folder / "ISIC_2020_Training_GroundTruth.csv", "ISIC 2020")))
    images = need(folder / "train", "ISIC 2020")
    files = [images / f"{name}.jpg" for name in truth.column("image_name", "image")]
    labels = np.array([int(cell) for cell in truth.column("target", "label")], np.int32)
    groups = [patient or file.stem for patient, file in
              zip(truth.column("patient_id", "group"), files, strict=True)]  # fmt: skip
    return make_listing(*rows(folder, files), labels, ("benign", "malignant"), groups=groups)
