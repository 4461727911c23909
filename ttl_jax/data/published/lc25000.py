"""LC25000: lung and colon histology tiles, 5 classes (Borkowski et al. 2019).

Layout: lung_colon_image_set/{colon_image_sets,lung_image_sets}/CLASS/*.jpeg. The 25,000 tiles are
rotated and mirrored copies of 1,250; the files do not say of which.
"""

from __future__ import annotations

from pathlib import Path

from ttl_jax.data.published.layout import class_folders, need, published
from ttl_jax.data.sources.listing import Listing

CLASSES = {
    "colon_aca": "colon_image_sets", "colon_n": "colon_image_sets",
    "lung_aca": "lung_image_sets", "lung_n": "lung_image_sets", "lung_scc": "lung_image_sets",
}  # fmt: skip


@published("lc25000")
def read_lc25000(folder: Path) -> Listing:
    """List the five class folders."""
    inner = folder / "lung_colon_image_set"
    root = inner if inner.is_dir() else folder
    return class_folders(
        folder, [(name, need(root / part / name, "LC25000")) for name, part in CLASSES.items()]
    )
