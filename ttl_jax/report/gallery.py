"""A run's gallery of class-activation maps, as images that stand in the page itself."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ttl_jax.errors import UserError
from ttl_jax.report.read import Run, inside


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
        entries = _once(
            {**each, **{key: _address(inside(place, each[key]).read_bytes()) for key in ("image", "map")}}
            for each in index["entries"]
        )
        size = sum(len(each["image"]) + len(each["map"]) for each in entries)
        generated = str(run.config["data"]["name"]).startswith("phantom/")
        return Gallery(index["split"], index["unit"], entries, generated, size)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{place} is not a readable gallery: {error!r}; remove that folder") from None


def _once(entries: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Entries of the same picture and verdict as one, with the ids of the others as its "copies"."""
    shown: dict[tuple[str, bool], dict[str, Any]] = {}
    for each in entries:
        key = each["image"], each["right"]
        if key in shown:
            shown[key]["copies"].append(each["id"])
        else:
            shown[key] = {**each, "copies": []}
    return tuple(shown.values())


def _address(picture: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(picture).decode("ascii")
