"""The kinds of files that fuzz.py makes and reads."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import hostile_dicom
import hostile_images
import hostile_weights
from fuzz import Case, mutated


def weights(seed: int, mutations: int) -> Iterator[Case]:
    """Files of weights."""
    return chain(hostile_weights.hostile(seed), mutated("weights", hostile_weights.honest(), mutations, seed))


def images(seed: int, mutations: int) -> Iterator[Case]:
    """Images, volumes, arrays and tables."""
    yield from hostile_images.hostile(seed)
    for kind, files in hostile_images.honest().items():
        yield from mutated(kind, files, mutations, seed)


def dicom(seed: int, mutations: int) -> Iterator[Case]:
    """DICOM files."""
    return chain(hostile_dicom.hostile(seed), mutated("dicom", hostile_dicom.honest(), mutations, seed))


KINDS = {"weights": weights, "images": images, "dicom": dicom}
