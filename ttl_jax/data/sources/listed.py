"""Digest of a listing: it tells, without decoding an image, that a data set is as it was."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ttl_jax.config.data import DataConfig
from ttl_jax.data.images.decode import ImageSource, Stack
from ttl_jax.data.sources.listing import Listing


def listed(listing: Listing, config: DataConfig) -> str:
    """Return a digest of ids, labels, groups, splits and classes, and of the files' sizes and times.

    Another digest need not mean other images (a copied folder has other times): they are decoded then.
    """
    digest = hashlib.blake2b(digest_size=16)
    for values in (listing.ids, listing.drawn_by_or_groups, listing.splits, np.array(listing.class_names)):
        digest.update("\n".join(values.tolist()).encode())
        digest.update(b"\0")
    digest.update(np.ascontiguousarray(listing.labels).tobytes())
    stamps: dict[Path, bytes] = {}
    _add(digest, Path(config.path), stamps)
    for image in listing.images:
        _add(digest, image, stamps)
    return digest.hexdigest()


def _add(digest: hashlib.blake2b, image: ImageSource, stamps: dict[Path, bytes]) -> None:
    if isinstance(image, Stack):
        for each in image.slices:
            _add(digest, each, stamps)
        return
    if isinstance(image, np.ndarray):
        digest.update(np.ascontiguousarray(image).tobytes())
        return
    path = image if isinstance(image, Path) else getattr(image, "path", None)
    if not isinstance(path, Path):
        return
    if path not in stamps:
        try:
            about = path.stat()
            stamps[path] = b"" if path.is_dir() else f"{about.st_size} {about.st_mtime_ns};".encode()
        except OSError:
            stamps[path] = b"absent;"
    digest.update(stamps[path])
