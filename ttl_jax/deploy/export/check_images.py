"""The images that an export is checked on: the user's, or generated ones."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax.data.phantom.render import render
from ttl_jax.data.phantom.sampling import MODALITIES, Phantom
from ttl_jax.data.read_images import read_images
from ttl_jax.errors import UserError
from ttl_jax.training.records.signature import Signature
from ttl_jax.typing import Int, UInt8

CHECKED = 64
MOST = 2048  # of the user's images that are held in memory
SMALLEST = 16  # of a phantom


@dataclass(frozen=True)
class CheckImages:
    """Images, prepared as the network takes them.

    Attributes:
        images: uint8, those of every class mixed.
        labels: numbers of their classes; None where they are not known.
        origin: what they are, for a reader.
    """

    images: UInt8[np.ndarray, "n *image"]
    labels: Int[np.ndarray, " n"] | None
    origin: str


def read_check_images(given: Any, signature: Signature) -> CheckImages:
    """The user's images, in an order drawn from seed 0; labelled by the folders of classes that they lie in.

    Args:
        given: files, folders, arrays, as `Run.predict` takes them.
        signature: how they are prepared.

    Raises:
        UserError: fewer than two can be read.
    """
    read = read_images(given, signature.geometry, signature.source)
    readable = [(name, pixels) for name, pixels in islice(read, MOST) if not isinstance(pixels, str)]
    if len(readable) < 2:
        raise UserError(
            f"--images={given}: {len(readable)} images can be read; a check needs 2, better {CHECKED}"
        )
    order = np.random.default_rng(0).permutation(len(readable))
    names = [Path(readable[place][0]).parent.name for place in order]
    labelled = signature.task == "multiclass" and set(names) <= set(signature.class_names)
    labels = np.array([signature.class_names.index(name) for name in names]) if labelled else None
    images = np.stack([readable[place][1] for place in order])
    return CheckImages(images, labels, f"{len(readable)} images of {given}")


def generated_images(signature: Signature, count: int = CHECKED) -> CheckImages:
    """Phantoms of every modality in turn, at the size of the network; a volume's slices become brighter."""
    size, depth = signature.geometry.size, signature.geometry.depth
    pictures = []
    for number in range(count):
        patient, modality = divmod(number, len(MODALITIES))
        phantom = Phantom(MODALITIES[modality])
        picture = render(phantom, patient, 0, patient % 2, max(size, SMALLEST)).image[:size, :size]
        if depth:
            fading = np.linspace(0.5, 1, depth).reshape(-1, 1, 1, 1)
            picture = (fading * picture).astype(np.uint8)
        pictures.append(picture)
    return CheckImages(np.stack(pictures), None, f"{count} generated images (phantoms)")
