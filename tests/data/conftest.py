"""Tiny images and tables on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


def save_image(path: Path, seed: int, shape: tuple[int, ...] = (12, 10, 3)) -> np.ndarray:
    """A random image, so that no two have the same pixels."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def save():
    return save_image


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """40 images of class a, 20 of class b."""
    for name, count in (("a", 40), ("b", 20)):
        for number in range(count):
            save_image(tmp_path / "data" / name / f"{number:02}.png", ord(name) * 1000 + number)
    return tmp_path / "data"


@pytest.fixture
def table(tmp_path: Path):
    """Writes a table beside images/ with as many images as it has rows, and returns its path."""

    def write(text: str, encoding: str = "utf-8", images: int | None = None) -> Path:
        rows = len(text.strip().splitlines()) - 1
        for number in range(rows if images is None else images):
            save_image(tmp_path / "images" / f"i{number}.png", number)
        path = tmp_path / "table.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write
