"""Chest radiographs with and without tuberculosis: Montgomery County and Shenzhen (Jaeger et al. 2014).

Layout of both: CXR_png/{MCUCXR,CHNCXR}_NUMBER_LABEL.png; the last digit of the name is the label, 1 for
tuberculosis. One image a patient.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ttl_jax.data.published.layout import need, published, rows
from ttl_jax.data.sources.listing import Listing, make_listing
from ttl_jax.errors import UserError

CLASSES = ("normal", "tuberculosis")


@published("montgomery")
def read_montgomery(folder: Path) -> Listing:
    """List Montgomery County's radiographs."""
    return _read(folder, "MCUCXR")


@published("shenzhen")
def read_shenzhen(folder: Path) -> Listing:
    """List Shenzhen's radiographs."""
    return _read(folder, "CHNCXR")


def _read(folder: Path, prefix: str) -> Listing:
    images = need(folder / "CXR_png", f"the {prefix} set")
    files = sorted(images.glob("*.png"))
    pattern = re.compile(rf"{prefix}_(\d+)_([01])")
    matches = [pattern.fullmatch(file.stem) for file in files]
    for file, match in zip(files, matches, strict=True):
        if match is None:
            raise UserError(f"{file} is not named {prefix}_NUMBER_0.png or _1.png; move it away")
    labels = np.array([int(match[2]) for match in matches if match], np.int32)
    return make_listing(*rows(folder, files), labels, CLASSES)
