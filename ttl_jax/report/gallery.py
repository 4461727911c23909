"""A run's gallery of class-activation maps, as images that stand in the page itself."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ttl_jax.errors import UserError
from ttl_jax.report.read import Run


@dataclass(frozen=True)
class Gallery:
    """entries: as index.json has them, "image" and "map" being data: addresses.

    generated: whether the images are a phantom's; else the page holds images of patients. size: bytes of all
    addresses.
    """

    split: str
    unit: str
    entries: tuple[Mapping[str, Any], ...]
    generated: bool
    size: int


def gallery(run: Run) -> Gallery | None:
    """Reads WORKDIR/gallery; None where there is none.

    Raises:
        UserError: it is there and cannot be read.
    """
    place = run.path / "gallery"
    if not place.is_dir():
        return None
    try:
        index = json.loads((place / "index.json").read_text(encoding="utf-8"))
        entries = tuple(
            {**each, **{key: _address((place / each[key]).read_bytes()) for key in ("image", "map")}}
            for each in index["entries"]
        )
        size = sum(len(each["image"]) + len(each["map"]) for each in entries)
        generated = str(run.config["data"]["name"]).startswith("phantom/")
        return Gallery(index["split"], index["unit"], entries, generated, size)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{place} is not a readable gallery: {error!r}; remove that folder") from None


def _address(picture: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(picture).decode("ascii")
