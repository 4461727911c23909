"""BUSI: breast ultrasound, 780 images of 600 women (Al-Dhabyani et al. 2020).

Layout: {benign,malignant,normal}/NAME (N).png beside NAME (N)_mask.png, NAME (N)_mask_1.png. Files
name no patient, and some images stand there twice: near-duplicates are grouped (data.duplicates).
"""

from __future__ import annotations

from pathlib import Path

from ttl_jax.data.published.layout import class_folders, need, published
from ttl_jax.data.sources.listing import Listing

CLASSES = ("benign", "malignant", "normal")


@published("busi")
def read_busi(folder: Path) -> Listing:
    """List the ultrasound images and leave the masks out."""
    return class_folders(folder, [(name, need(folder / name, "BUSI")) for name in CLASSES], skip="_mask")
