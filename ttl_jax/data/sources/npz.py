"""Arrays: a MedMNIST .npz file, or a pair that the caller holds in memory."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax.data.images.decode import ImageSource, Stack, reason
from ttl_jax.data.sources.label_columns import Labels, check_known, one_hot_classes, read_labels
from ttl_jax.data.sources.listing import SPLITS, Listing, make_listing, source
from ttl_jax.errors import UserError, nearest
from ttl_jax.system import host
from ttl_jax.system.unpack import PythonObjectsError, read_zipped_arrays

TIMES, SPARE = 200, 256 << 20  # most bytes of arrays for a byte of the file (masks shrink so far), and at all
LEAST_COLUMNS = 8  # of a volume's slice; fewer would be colours


def read_npz(path: str | Path, how: str = "auto") -> Listing:
    """Read {train,val,test}_images and {train,val,test}_labels (Yang et al. 2023, MedMNIST v2).

    Images are uint8 (N, H, W) or (N, H, W, 3), volumes (N, D, H, W >= 8); labels
    (N,) or (N, 1) class numbers or (N, L > 1) zeros and ones. Missing val or test arrays are allowed. The
    file has no patients, so every image is its own group.

    Args:
        path: The file.
        how: Reading of the labels, see `DataConfig.labels`.

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
    parsed = array_labels(np.concatenate(labels), str(path), ids, how)
    listing = make_listing(
        str(path),
        [image for part in images for image in _each(part)],
        [f"{path}, image {name}" for name in ids],
        ids,
        parsed.values,
        parsed.names,
        splits=splits,
    )
    return replace(listing, splits_from=f"the arrays of {path}", notes=parsed.notes, numbered=True)


def read_arrays(images: Any, labels: Any, how: str = "auto") -> Listing:
    """List a pair of arrays; every image is its own group.

    Args:
        images: Uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3); volumes (N, D, H, W >= 8); or a sequence of
            images (H, W), (H, W, 1) or (H, W, 3) of any sizes.
        labels: (N,) or (N, 1) integers, whole floats, booleans or text; (N, L > 1) zeros, ones, and NaN for
            unknown; or a list of labels for each. Also of a pandas Series or DataFrame.
        how: Reading of the labels, see `DataConfig.labels`.

    Raises:
        UserError: another shape, another kind of numbers, or counts that differ.
    """
    each = _each_of_any_size(images)
    ids = [f"{number:06d}" for number in range(len(each))]
    parsed = array_labels(_columns(_as_array(labels), each, "labels"), "labels", ids, how)
    where = [f"image {number}" for number in range(len(each))]
    listing = make_listing("the arrays given", each, where, ids, parsed.values, parsed.names)
    return replace(listing, notes=parsed.notes, numbered=True)


def _each_of_any_size(images: Any) -> list[ImageSource]:
    """Return images one by one, from an array or from a sequence of arrays of several sizes."""
    alone = isinstance(images, str | bytes) or getattr(images, "shape", None) == ()
    if alone or not isinstance(images, Iterable):
        raise UserError(f"images are a {type(images).__name__}; give an array (N, H, W[, C]) or a list")
    if not isinstance(images, np.ndarray) or images.dtype == object:
        parts = [np.asarray(image) for image in images]
        if len({part.shape for part in parts}) > 1:
            for number, part in enumerate(parts):
                if part.ndim not in (2, 3) or (part.ndim == 3 and part.shape[-1] not in (1, 3)):
                    raise UserError(f"image {number} has shape {part.shape}; (H, W) or (H, W, 3) is needed")
                check_images(part[None], f"image {number}")
            return list(parts)
        images = np.array(parts)
    return _each(check_images(images, "images"))


def _as_array(labels: Any) -> np.ndarray:
    """Return labels as an array; lists of words stay lists, in an array of objects."""
    rows = list(labels) if isinstance(labels, list | tuple) else None
    if rows and all(isinstance(row, list | tuple | set | frozenset) for row in rows):
        lengths = {len(row) for row in rows}
        if len(lengths) > 1 or any(isinstance(item, str) for row in rows for item in row):
            ragged = np.empty(len(rows), object)
            ragged[:] = rows
            return ragged
    return np.asarray(labels)


def read_npz_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return every array of the file, its checksum verified.

    Raises:
        UserError: no .npz file, damaged, or larger than the machine's memory.
    """
    try:
        with zipfile.ZipFile(path) as file:
            needed = sum(member.file_size for member in file.infolist())
        if needed > host.machine_memory():
            raise UserError(
                f"{path} unpacks to {needed / 1e9:.1f} GB, more than this machine's memory; split it up"
            )
        return read_zipped_arrays(path, TIMES, SPARE)
    except UserError:
        raise
    except PythonObjectsError as error:
        raise UserError(
            f"{path}, {error} holds Python objects, which could run anything; save it as "
            "np.array(labels, dtype=str), or images of one size as uint8"
        ) from None
    except Exception as error:  # zipfile and NumPy raise nearly anything on a damaged file
        raise UserError(f"{path} is not a readable .npz file ({reason(error)}); fetch it anew") from None


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


def array_labels(labels: np.ndarray, where: str, ids: list[str], how: str = "auto") -> Labels:
    """Convert labels (N, L) of any kind.

    Args:
        labels: Class numbers, words, lists of words, or zeros and ones.
        where: Origin of the labels, for messages.
        ids: The images' ids.
        how: Reading of the labels, see `DataConfig.labels`.

    Raises:
        UserError: fractions, negative classes, other values than 0 and 1 in several columns, or one
            class only.
    """

    def at(row: int) -> str:
        return f"{where}: image {ids[row]}"

    labels = _without_objects(labels, where)
    if labels.dtype.kind == "U" and labels.shape[1] == 1:
        cells = labels[:, 0].tolist()
        if how != "columns":
            return read_labels((where,), [cells], at, how)
    if labels.shape[1] > 1 or (how == "several" and labels.dtype.kind in "biuf"):
        return _several_columns(labels, where, ids, how)
    column = labels[:, 0]
    if column.dtype.kind == "f" and (np.isfinite(column) & (column == np.rint(column))).all():
        column = column.astype(np.int64)  # as pandas writes integers once one was missing
    if column.dtype.kind == "f" and np.isnan(column).any():
        raise UserError(f"{at(int(np.argmax(np.isnan(column))))} has no label (NaN); leave it out")
    if column.dtype.kind not in "biuU":
        raise UserError(f"{where}: labels are {column.dtype}; a class is an integer or a word")
    if column.dtype.kind == "i" and column.min() < 0:
        row = int(np.argmax(column < 0))
        raise UserError(f"{where}: image {ids[row]} has class {column[row]}; classes start at 0")
    values, numbers = np.unique(column, return_inverse=True)
    if len(values) < 2:
        raise UserError(f"{where} has one class only ({values[0]}); there is nothing to learn")
    names = tuple(str(value) for value in values.tolist())
    return Labels(numbers.reshape(-1).astype(np.int32), names)


def _several_columns(labels: np.ndarray, where: str, ids: list[str], how: str) -> Labels:
    """Return labels from columns of 0, 1 and NaN."""
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
    if how == "classes" or (how == "auto" and (known.sum(axis=1) == 1).all()):
        return one_hot_classes(names, known, lambda row: f"{where}: image {ids[row]}")
    return Labels(known, names)


def _without_objects(labels: np.ndarray, where: str) -> np.ndarray:
    """Return an array of objects as one of numbers or text; lists of words become the text of a list."""
    if labels.dtype.kind == "S":
        return np.char.decode(labels, "utf-8", "replace")
    if labels.dtype != object:
        return labels
    items = labels.reshape(-1).tolist()
    if all(isinstance(item, str) for item in items):
        return labels.astype(str)
    if all(isinstance(item, list | tuple | set | frozenset) for item in items):
        return np.array([repr(sorted(map(str, item))) for item in items]).reshape(labels.shape)
    try:
        return labels.astype(float)
    except (TypeError, ValueError):
        kinds = sorted({type(item).__name__ for item in items})
        raise UserError(
            f"{where}: labels are of the kinds {', '.join(kinds)}; write all the same way"
        ) from None


def _columns(labels: np.ndarray, images: Sequence[ImageSource] | np.ndarray, where: str) -> np.ndarray:
    """Return labels as (N, L), one row for each image."""
    if labels.ndim not in (1, 2) or (labels.ndim == 2 and labels.shape[1] == 0):
        raise UserError(f"{where} have shape {labels.shape}; (N,), (N, 1) or (N, L) is needed")
    if len(labels) != len(images):
        raise UserError(f"{where} are {len(labels)} labels for {len(images)} images; give one for each")
    return labels.reshape(len(labels), -1)


source("npz", "depth", "labels")(lambda config: read_npz(config.path, config.labels))
