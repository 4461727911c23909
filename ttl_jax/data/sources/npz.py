"""Arrays: a MedMNIST .npz file, or a pair that the caller holds in memory."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from ttl_jax.data.images.decode import ImageSource, Stack, reason
from ttl_jax.data.sources.labels import check_known
from ttl_jax.data.sources.listing import SPLITS, Listing, make_listing, source
from ttl_jax.errors import UserError, nearest
from ttl_jax.system import host

LEAST_COLUMNS = 8  # of a volume's slice; fewer would be colours


def read_npz(path: str | Path) -> Listing:
    """Read {train,val,test}_images and {train,val,test}_labels (Yang et al. 2023, MedMNIST v2).

    Images are uint8 (N, H, W) or (N, H, W, 3), volumes (N, D, H, W >= 8); labels
    (N,) or (N, 1) class numbers or (N, L > 1) zeros and ones. Missing val or test arrays are allowed. The
    file has no patients, so every image is its own group.

    Raises:
        UserError: another layout, another kind of numbers, or counts that differ.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"data.path={str(path)!r} does not exist; name the .npz file")
    arrays = read_npz_arrays(path)
    images, labels, splits, ids = [], [], [], []
    for split in SPLITS:
        names = (f"{split}_images", f"{split}_labels")
        if split != "train" and not any(name in arrays for name in names):
            continue
        for name in names:
            if name not in arrays:
                hint = nearest(name, tuple(arrays))
                raise UserError(f"{path} has no array {name!r}{hint}; MedMNIST's layout is needed")
        images.append(check_images(arrays[names[0]], f"{path}, {names[0]}"))
        labels.append(_columns(arrays[names[1]], arrays[names[0]], f"{path}, {names[1]}"))
        splits += [split] * len(images[-1])
        ids += [f"{split}/{number:06d}" for number in range(len(images[-1]))]
    if len(shapes := sorted({part.ndim for part in images})) > 1:
        raise UserError(f"{path} has images of {shapes} dimensions in its splits; give all the same")
    widths = sorted({part.shape[1] for part in labels})
    if len(widths) > 1:
        raise UserError(f"{path} has labels of {widths} columns in its splits; give all the same")
    numbers, class_names = array_labels(np.concatenate(labels), str(path), ids)
    return make_listing(
        str(path),
        [image for part in images for image in _each(part)],
        [f"{path}, image {name}" for name in ids],
        ids,
        numbers,
        class_names,
        splits=splits,
        splits_from=f"the arrays of {path}",
    )


def read_arrays(images: np.ndarray, labels: np.ndarray) -> Listing:
    """List a pair of arrays; every image is its own group.

    Args:
        images: Uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3); volumes (N, D, H, W >= 8).
        labels: (N,) or (N, 1) integers or text; (N, L > 1) zeros, ones, and NaN for unknown.

    Raises:
        UserError: another shape, another kind of numbers, or counts that differ.
    """
    check_images(images, "images")
    ids = [f"{number:06d}" for number in range(len(images))]
    numbers, names = array_labels(_columns(labels, images, "labels"), "labels", ids)
    where = [f"image {number}" for number in range(len(images))]
    return make_listing("the arrays given", _each(images), where, ids, numbers, names)


def read_npz_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return every array of the file, its checksum verified.

    Raises:
        UserError: no .npz file, damaged, or larger than the machine's memory.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as file:
            needed = sum(member.file_size for member in file.infolist())
            if needed > host.machine_memory():
                raise UserError(
                    f"{path} unpacks to {needed / 1e9:.1f} GB, more than this machine's memory; split it up"
                )
            for name in file.namelist():
                with file.open(name) as member:
                    array = np.lib.format.read_array(member, allow_pickle=False)
                    if member.read(1):
                        raise ValueError(f"{name} has bytes behind its array")
                arrays[name.removesuffix(".npy")] = array
    except UserError:
        raise
    except Exception as error:  # zipfile and NumPy raise nearly anything on a damaged file
        raise UserError(f"{path} is not a readable .npz file ({reason(error)}); fetch it anew") from None
    return arrays


def check_images(images: np.ndarray, where: str) -> np.ndarray:
    """Refuse anything but uint8 (N, H, W), (N, H, W, 1), (N, H, W, 3) or, volumes, (N, D, H, W >= 8).

    Raises:
        UserError: naming the shape or type, and the image where one is NaN.
    """
    if np.issubdtype(images.dtype, np.floating) and not np.isfinite(images).all():
        bad = np.flatnonzero(~np.isfinite(images).reshape(len(images), -1).all(axis=1))
        raise UserError(
            f"{where}: image {bad[0]} has NaN or infinite pixels ({len(bad)} images in all); mend "
            "them and save uint8 0..255"
        )
    if images.dtype != np.uint8:
        raise UserError(f"{where} are {images.dtype}; scale them to 0..255 and save uint8")
    if images.ndim not in (3, 4) or (
        images.ndim == 4 and images.shape[-1] not in (1, 3) and not _volumes(images)
    ):
        raise UserError(
            f"{where} have shape {images.shape}; (N, H, W), (N, H, W, 3) or (N, D, H, W) is needed"
        )
    if not images.size:
        raise UserError(f"{where} are empty (shape {images.shape}); a split needs images")
    return images


def _volumes(images: np.ndarray) -> bool:
    return images.ndim == 4 and images.shape[-1] >= LEAST_COLUMNS


def _each(images: np.ndarray) -> list[ImageSource]:
    """Return images (N, H, W[, C]) one by one, volumes (N, D, H, W) as stacks of their slices."""
    if _volumes(images):
        return [Stack(tuple(volume)) for volume in images]
    return list(images)


def array_labels(labels: np.ndarray, where: str, ids: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Convert labels (N, L) of any kind to (labels, class names).

    Raises:
        UserError: fractions, negative classes, other values than 0 and 1 in several columns, or one
            class only.
    """
    if labels.shape[1] > 1:
        if labels.dtype.kind not in "biuf":
            raise UserError(f"{where}: labels are {labels.dtype}; several labels take 0, 1 and NaN")
        known = labels.astype(np.float32)
        bad = np.argwhere(~(np.isnan(known) | (known == 0) | (known == 1)))
        if len(bad):
            row, column = bad[0]
            raise UserError(
                f"{where}: image {ids[row]} has {labels[row, column]} in label {column}; several "
                "labels take 0, 1, or NaN for unknown"
            )
        names = tuple(str(number) for number in range(labels.shape[1]))
        check_known(names, known)
        return known, names
    column = labels[:, 0]
    if column.dtype.kind not in "biuU":
        raise UserError(f"{where}: labels are {column.dtype}; a class is an integer or a word")
    if column.dtype.kind == "i" and column.min() < 0:
        row = int(np.argmax(column < 0))
        raise UserError(f"{where}: image {ids[row]} has class {column[row]}; classes start at 0")
    values, numbers = np.unique(column, return_inverse=True)
    if len(values) < 2:
        raise UserError(f"{where} has one class only ({values[0]}); there is nothing to learn")
    names = tuple(str(value) for value in values.tolist())
    return numbers.reshape(-1).astype(np.int32), names


def _columns(labels: np.ndarray, images: np.ndarray, where: str) -> np.ndarray:
    """Return labels as (N, L), one row for each image."""
    if labels.ndim not in (1, 2) or (labels.ndim == 2 and labels.shape[1] == 0):
        raise UserError(f"{where} have shape {labels.shape}; (N,), (N, 1) or (N, L) is needed")
    if len(labels) != len(images):
        raise UserError(f"{where} are {len(labels)} labels for {len(images)} images; give one for each")
    return labels.reshape(len(labels), -1)


source("npz", "depth")(lambda config: read_npz(config.path))
