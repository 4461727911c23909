"""BIMCV-COVID19: chest radiographs of patients with and without COVID-19 (de la Iglesia Vaya et al. 2020).

Two publications, unpacked to positive/ and negative/: sub-S*/ses-E*/mod-rx/sub-S*_..._vp-VIEW_{cr,dx}.png,
in whatever folders their archives bring, with a .json of DICOM tags beside each. The label is the
publication that a patient stands in. Frontal views (vp-ap, vp-pa) are listed; lateral ones (vp-ll) and
those without a view are left out and counted. A file does not repeat in both: a patient may, and is one
group.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ttl_jax.data.images.decode import read_file
from ttl_jax.data.published.layout import need, published
from ttl_jax.data.sources.listing import Listing, make_listing
from ttl_jax.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

CLASSES = ("negative", "positive")
_NAME = re.compile(r"(sub-S\d+)_(ses-E\d+)_.*?bp-chest(?:_vp-([a-z]+))?_(?:cr|dx)\.png", re.IGNORECASE)
_FRONTAL = ("ap", "pa")
_PHOTOMETRIC = "00280004"  # DICOM tag in the .json


@dataclass(frozen=True)
class Radiograph:
    """A radiograph of BIMCV as a Picture: the stored numbers of its DICOM file, of 16 bits.

    Attributes:
        path: The .png file.
    """

    path: Path

    def read(self) -> Image:
        """The image as "L", bones white: inverted where its DICOM file was MONOCHROME1.

        Raises:
            UnreadableImageError: missing or damaged.
        """
        from PIL import ImageOps

        image = read_file(self.path).convert("L")
        return ImageOps.invert(image) if _photometric(self.path) == "MONOCHROME1" else image


def _photometric(path: Path) -> str:
    """Return the photometric interpretation in the JSON file beside the image; "" if there is none."""
    try:
        tags = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return str(tags[_PHOTOMETRIC]["Value"][0])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return ""


@published("bimcv_covid19")
def read_bimcv(folder: Path) -> Listing:
    """List the frontal radiographs, grouped by patient.

    Raises:
        UserError: a part is missing, or holds no frontal radiograph.
    """
    files: list[Path] = []
    labels: list[int] = []
    groups: list[str] = []
    others = 0
    for label, part in enumerate(CLASSES):
        root = need(folder / part, "BIMCV-COVID19")
        before = len(files)
        for file in sorted(root.rglob("mod-rx/*.png")):
            match = _NAME.fullmatch(file.name)
            if match is None or (match[3] or "").lower() not in _FRONTAL:
                others += 1
                continue
            files.append(file)
            labels.append(label)
            groups.append(match[1])
        if len(files) == before:
            raise UserError(
                f"{root} holds no frontal radiograph (as sub-S1/ses-E1/mod-rx/..._vp-ap_dx.png); "
                "unpack the archives there"
            )
    if others:
        print(f"{folder}: left out {others} lateral radiographs or without a known view", flush=True)
    return make_listing(
        str(folder),
        [Radiograph(file) for file in files],
        [str(file) for file in files],
        [file.relative_to(folder).as_posix() for file in files],
        np.array(labels),
        CLASSES,
        groups=groups,
    )
