"""Images to explain, each as every run's network sees it, with its mask where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ttl_jax import data
from ttl_jax.analysis.features import some
from ttl_jax.config import data_config
from ttl_jax.data import phantom
from ttl_jax.data.images.decode import Geometry, Stack, UnreadableImageError, decode, whole
from ttl_jax.data.pseudonyms import pseudonymous
from ttl_jax.data.read_images import read_images
from ttl_jax.data.sources.file_kinds import IMAGES
from ttl_jax.errors import UserError, nearest
from ttl_jax.training.result import Result
from ttl_jax.typing import Bool, UInt8

ENDS = ("_mask", "_segmentation", "_seg")  # of a mask's name, behind its image's
LOSSY = (".jpg", ".jpeg", ".jpe")


@dataclass(frozen=True)
class Picture:
    """One image.

    Attributes:
        id: its name.
        images: run -> the image as that run's network sees it.
        masks: run -> its mask in the same geometry; None without one.
        fault: why it cannot be read; then there are no images.
    """

    id: str
    images: Mapping[str, UInt8[np.ndarray, "... s s 3"]]
    masks: Mapping[str, Bool[np.ndarray, "... s s"]] | None = None
    fault: str = ""


def from_files(runs: Mapping[str, Result], paths: Sequence[str], masks: str = "") -> Iterator[Picture]:
    """Read files, folders and all else that `data.read_images` takes.

    Args:
        runs: by name.
        paths: of images.
        masks: folder of masks called as their images, with "_mask" or "_segmentation" behind it or without:
            images of any kind, or .npy (H, W) or (D, H, W). What is not 0 is inside (of JPEG, above 127).

    Raises:
        UserError: as `read_images`, or masks of which none, or two, belong to an image.
    """
    mask_files = _mask_files(Path(masks)) if masks else {}
    matched = 0
    streams = (
        read_images(list(paths), run.signature.geometry, run.signature.source) for run in runs.values()
    )
    for seen in zip(*streams, strict=True):
        name, faults = seen[0][0], [pixels for _, pixels in seen if isinstance(pixels, str)]
        if faults:
            yield Picture(name, {}, fault=faults[0])
            continue
        images = {run: pixels for run, (_, pixels) in zip(runs, seen, strict=True)}
        held = None
        if (file := mask_files.get(Path(name).stem.lower())) is not None:
            matched += 1
            _check_shape(file, Path(name))
            held = {key: read_mask(file, run.signature.geometry) for key, run in runs.items()}
        yield Picture(name, images, held)
    if masks and not matched:
        raise UserError(f"no mask in {masks} is called as one of the images (NAME or NAME_mask, any ending)")


def from_split(runs: Mapping[str, Result], split: str, count: int) -> Iterator[Picture]:
    """Read images of the first run's own data set, drawn at random; a phantom's with their lesions' masks.

    Raises:
        UserError: no such split, or data sets of several runs that share no images.
    """
    chosen: list[str] = []
    images, masks = {}, {}
    for name, run in runs.items():
        sets = data.load(data_config(run.config.data))
        if split not in sets:
            raise UserError(f"the data of {run.workdir} have no split {split!r}{nearest(split, tuple(sets))}")
        own = pseudonymous(sets[split])
        chosen = chosen or [str(each) for each in some(own, count).ids]
        rows = {str(each): row for row, each in enumerate(own.ids)}
        if missing := [each for each in chosen if each not in rows]:
            raise UserError(f"{split} of {run.workdir} lacks {missing[0]}: these runs are of other images")
        images[name] = own.images.read(np.array([rows[each] for each in chosen]))
        if run.config.data.name.startswith("phantom/"):
            masks[name] = phantom.masks(run.config.data, chosen)
    for row, each in enumerate(chosen):
        held = {name: masks[name][row] for name in masks} if masks else None
        yield Picture(each, {name: images[name][row] for name in images}, held)


def read_mask(file: Path, geometry: Geometry) -> Bool[np.ndarray, "... s s"]:
    """A mask brought to the size of its image as that was.

    Raises:
        UserError: it cannot be read.
    """
    try:
        if file.suffix.lower() == ".npy":
            values = np.load(file, allow_pickle=False)
        else:
            values = np.asarray(whole(file).convert("RGB")).max(axis=-1)
        inside = (values > (127 if file.suffix.lower() in LOSSY else 0)).astype(np.uint8) * np.uint8(255)
        if inside.ndim != (3 if geometry.depth else 2):
            raise UserError(f"mask {file} has shape {inside.shape}; the network takes {geometry.shape[:-1]}")
        source = Stack(tuple(inside)) if geometry.depth else inside
        return decode(source, replace(geometry, pad_value=0))[..., 0] > 127
    except (UnreadableImageError, OSError, ValueError) as error:
        raise UserError(f"mask {file} cannot be read ({error}); mend it or remove it") from None


def _check_shape(mask: Path, image: Path) -> None:
    """Refuse a mask of other proportions than its image's: it would lie beside what it marks."""
    if not (IMAGES.accepts(image) and image.is_file() and IMAGES.accepts(mask)):
        return
    (wide, high), (width, height) = whole(image).size, whole(mask).size
    if abs(wide * height - high * width) > max(wide, high):  # rounding of a mask at another scale
        raise UserError(f"mask {mask} has {width} x {height} pixels, and its image {image} {wide} x {high}")


def _mask_files(folder: Path) -> dict[str, Path]:
    """Masks by the stem of their image, in lower case."""
    if not folder.is_dir():
        raise UserError(f"there is no folder of masks {folder}")
    marked, plain = dict[str, Path](), dict[str, Path]()
    for file in sorted(folder.rglob("*")):
        if not (IMAGES.accepts(file) or file.suffix.lower() == ".npy"):
            continue
        stem = file.stem.lower()
        end = next((end for end in ENDS if stem.endswith(end)), "")
        kind, name = (marked if end else plain), stem.removesuffix(end)
        if name in kind:
            raise UserError(f"{kind[name]} and {file} would be masks of one image: name them apart")
        kind[name] = file
    return plain | marked  # an image may lie beside its mask
