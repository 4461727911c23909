"""Kvasir: endoscopy, 8 classes (Pogorelov et al. 2017).

Layout: one folder for each class. No patient is named.
"""

from __future__ import annotations

from pathlib import Path

from ttl_jax.data.published.layout import class_folders, need, published
from ttl_jax.data.sources.listing import Listing

CLASSES = (
    "dyed-lifted-polyps", "dyed-resection-margins", "esophagitis", "normal-cecum", "normal-pylorus",
    "normal-z-line", "polyps", "ulcerative-colitis",
)  # fmt: skip


@published("kvasir")
def read_kvasir(folder: Path) -> Listing:
    """List the eight class folders."""
    return class_folders(folder, [(name, need(folder / name, "Kvasir")) for name in CLASSES])
