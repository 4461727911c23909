"""Every image read, checked and hashed once, in parallel, and held in memory where it fits."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ttl_jax.data.dataset import ArrayReader, ImageReader
from ttl_jax.data.images.decode import Geometry, ImageSource, UnreadableImageError, decode, decode_shown
from ttl_jax.data.progress_lines import Progress, progress_lines
from ttl_jax.data.splits.altered import SIDE as CONTENT_SIDE
from ttl_jax.data.splits.altered import content
from ttl_jax.data.splits.fingerprint import SIDE, pixel_hash, thumbnail
from ttl_jax.errors import UserError
from ttl_jax.typing import Int, UInt8


@dataclass(frozen=True)
class DecodingReader:
    """Reader that decodes at every read, for sets larger than the memory allowed.

    Attributes:
        images: Files, uint8 arrays or pictures.
        where: Name of each image in messages.
        geometry: Target size and resize mode.
    """

    images: Sequence[ImageSource]
    where: Sequence[str]
    geometry: Geometry

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Int[np.ndarray, " B"]) -> UInt8[np.ndarray, "B ... S S 3"]:
        """Decode the images at these positions.

        Raises:
            UserError: a file that was readable at the start no longer is.
        """
        batch = np.empty((len(indices), *self.geometry.shape), np.uint8)
        for place, index in enumerate(indices):
            try:
                batch[place] = decode(self.images[index], self.geometry)
            except UnreadableImageError as error:
                raise UserError(
                    f"{self.where[index]} {error}, though it could be read at the start; "
                    "put it back and run the same command to resume"
                ) from None
        return batch


@dataclass(frozen=True)
class Checked:
    """Outcome of reading every image.

    Attributes:
        reader: Reader of all images by position in the list that was read. Faulty images keep their positions
            but must not be read.
        hashes: 16-byte digest of the decoded pixels of each image. Empty for faulty images and for those of
            one colour throughout, which show nothing that could be copied (slices of air, of every patient).
        thumbnails: Gray thumbnails for `copies.find_copies`. A volume's shows its middle slice; a faulty
            image's is black.
        contents: Gray squares of the same images for `altered.altered_pairs`.
        faults: Position -> description of the fault.
    """

    reader: ImageReader
    hashes: tuple[bytes, ...]
    thumbnails: UInt8[np.ndarray, "N 32 32"]
    contents: UInt8[np.ndarray, "N 64 64"]
    faults: dict[int, str]


def read_all(
    images: Sequence[ImageSource],
    where: Sequence[str],
    geometry: Geometry,
    cache_gb: float,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Checked:
    """Decode every image once.

    Args:
        images: Files, uint8 arrays or pictures.
        where: Name of each image in messages.
        geometry: Target size and resize mode.
        cache_gb: Memory for decoded images, in gigabytes (1e9 bytes). A larger set is decoded again at every
            read.
        threads: Number of decoding threads; None uses one per core.
        progress: Called with (done, total) after each image, in order. None prints a line every few seconds.
    """
    count = len(images)
    held = count * math.prod(geometry.shape) <= cache_gb * 1e9
    pixels = np.empty((count if held else 0, *geometry.shape), np.uint8)
    thumbnails = np.zeros((count, SIDE, SIDE), np.uint8)
    contents = np.zeros((count, CONTENT_SIDE, CONTENT_SIDE), np.uint8)
    say = progress or progress_lines()

    def one(index: int) -> tuple[bytes, str]:
        try:
            image, shown = decode_shown(images[index], geometry)
        except UnreadableImageError as error:
            return b"", str(error)
        thumbnails[index] = thumbnail(shown)
        contents[index] = content(shown)
        if held:
            pixels[index] = image
        return pixel_hash(image), ""

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        outcomes = []
        for outcome in pool.map(one, range(count)):
            outcomes.append(outcome)
            say(len(outcomes), count)
    return Checked(
        reader=ArrayReader(pixels) if held else DecodingReader(images, where, geometry),
        hashes=tuple(digest for digest, _ in outcomes),
        thumbnails=thumbnails,
        contents=contents,
        faults={index: fault for index, (_, fault) in enumerate(outcomes) if fault},
    )
