"""MIDOG: mitotic figures and their look-alikes in tumour sections (Aubreville et al. 2023).

Layout of MIDOG++ (and of MIDOG 2021 and 2022, which name their table MIDOG.json): images/NUMBER.tiff,
whole regions of about 2 mm^2, and databases/MIDOG++.json in the manner of COCO, but with boxes as [left,
top, right, bottom] in pixels; category 1 is a mitotic figure, 2 a look-alike. A region is one case's:
regions are the groups. datasets_xvalidation.csv (Slide;Dataset;...), where it is there, is the owner's
split into training and test.
"""

from __future__ import annotations

import json
import math
import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ttl_jax.data.images.decode import UnreadableImageError, read_file, reason
from ttl_jax.data.published.layout import need, published
from ttl_jax.data.sources.csv_file import read_csv
from ttl_jax.data.sources.listing import SPLIT_ALIASES, Listing, make_listing
from ttl_jax.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

CLASSES = ("look-alike", "mitotic figure")
_MITOTIC = {1: 1, 2: 0}  # category -> label
SIDE = 64  # pixels of a patch; the boxes are of 50 around a clicked point
_TABLES = ("databases/MIDOG++.json", "MIDOG++.json", "MIDOG.json")


@dataclass(frozen=True)
class Patch:
    """A square of an image as a Picture, moved inwards where it would pass the border.

    Attributes:
        path: The image.
        row: Row of the patch's centre, in pixels.
        column: Column of the patch's centre, in pixels.
        side: Pixels per side of the patch.
    """

    path: Path
    row: float
    column: float
    side: int

    def read(self) -> Image:
        """The square as "RGB" or "L".

        Raises:
            UnreadableImageError: the image cannot be read, or is smaller than the square.
        """
        try:
            state = self.path.stat()
        except OSError:
            raise UnreadableImageError("does not exist") from None
        with _reading:  # or every thread would decode the same region of 100 megabytes
            region = _region(self.path, state.st_mtime_ns, state.st_size)
        if isinstance(region, str):
            raise UnreadableImageError(region)
        if min(region.size) < self.side:
            raise UnreadableImageError(f"is smaller than a patch of {self.side} pixels")
        top = _inside(self.row, self.side, region.height)
        left = _inside(self.column, self.side, region.width)
        return region.crop((left, top, left + self.side, top + self.side))


def _inside(centre: float, side: int, length: int) -> int:
    return min(max(math.floor(centre - side / 2), 0), length - side)


_reading = threading.Lock()


@lru_cache(maxsize=2)
def _region(path: Path, changed: int, size: int) -> Image | str:
    """Return the image, or the reason why it cannot be read, cached for all its patches."""
    try:
        return read_file(path)
    except UnreadableImageError as error:
        return str(error)


@published("midog")
def read_midog(folder: Path) -> Listing:
    """List a patch around every annotated cell; column `tumor_type` where the table has it.

    Raises:
        UserError: a file is missing, or the table is not as published.
    """
    table = next((folder / name for name in _TABLES if (folder / name).is_file()), folder / _TABLES[0])
    content = _read(need(table, "MIDOG"))
    images = need(folder / "images", "MIDOG")
    splits = _splits(folder / "datasets_xvalidation.csv")
    patches: list[Patch] = []
    labels, ids, groups, parts, tumors = [], [], [], [], []
    try:
        regions = {int(image["id"]): image for image in content["images"]}
        # One region after the other, so that each is decoded once.
        for cell in sorted(content["annotations"], key=lambda cell: (int(cell["image_id"]), int(cell["id"]))):
            region = regions[int(cell["image_id"])]
            left, top, right, bottom = (float(side) for side in cell["bbox"])
            patches.append(Patch(images / region["file_name"], (top + bottom) / 2, (left + right) / 2, SIDE))
            labels.append(_MITOTIC[int(cell["category_id"])])
            groups.append(Path(region["file_name"]).stem)
            ids.append(f"{groups[-1]}/{int(cell['id'])}")
            tumors.append(str(region.get("tumor_type", "")))
            parts.append(splits.get(int(cell["image_id"]), ""))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{table} is not MIDOG's table ({error!r}); fetch it anew") from None
    if not patches:
        raise UserError(f"{table} has no annotations; fetch it anew")
    for part, group in zip(parts, groups, strict=True):
        if splits and not part:
            raise UserError(f"datasets_xvalidation.csv of {folder} lacks region {group}; fetch it anew")
    listing = make_listing(
        str(folder),
        patches,
        [f"{patch.path}, cell {name.rpartition('/')[2]}" for patch, name in zip(patches, ids, strict=True)],
        ids,
        np.array(labels),
        CLASSES,
        groups=groups,
        splits=parts if splits else None,
    )
    return replace(
        listing,
        splits_from="datasets_xvalidation.csv",
        columns={"tumor_type": np.array(tumors)} if any(tumors) else {},
    )


def _read(table: Path) -> dict[str, Any]:
    try:
        content = json.loads(table.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{table} cannot be read ({reason(error)}); fetch it anew") from None
    if not isinstance(content, dict):
        raise UserError(f"{table} is not MIDOG's table; fetch it anew")
    return content


def _splits(table: Path) -> dict[int, str]:
    """Region -> split, as the owner has them; {} without the table."""
    if not table.is_file():
        return {}
    owners = read_csv(str(table))
    slides, parts = owners.column("Slide", "group"), owners.column("Dataset", "split")
    for row, (slide, part) in enumerate(zip(slides, parts, strict=True)):
        if part.lower() not in SPLIT_ALIASES or not slide.isdecimal():
            raise UserError(f"{owners.at(row)} has slide {slide!r} in split {part!r}; fetch it anew")
    return {int(slide): SPLIT_ALIASES[part.lower()] for slide, part in zip(slides, parts, strict=True)}
