"""Everything that a user has, as images at the size of a network: files, folders, tables, arrays.

Files go through the decoders that training reads with. One that cannot be read becomes the reason why not.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax.data.images.arrays import array_images
from ttl_jax.data.images.decode import (
    Encoded,
    Geometry,
    ImageSource,
    Stack,
    UnreadableImageError,
    decode,
    reason,
)
from ttl_jax.data.sources.csv_file import read_csv
from ttl_jax.data.sources.csv_table import find_files
from ttl_jax.data.sources.file_kinds import DICOM, IMAGES, NIFTI, FileKind
from ttl_jax.data.sources.frames import Unreadable
from ttl_jax.data.sources.listing import SPLITS
from ttl_jax.data.sources.npz import read_npz_arrays
from ttl_jax.data.sources.record import MANIFEST, read_record
from ttl_jax.data.sources.registry import TABLES
from ttl_jax.data.sources.window import parse_window
from ttl_jax.errors import UserError
from ttl_jax.system import remote
from ttl_jax.typing import UInt8

ANY = FileKind("image", (*IMAGES.endings, *DICOM.endings, *NIFTI.endings), "folder", DICOM.bare)
AHEAD = 4, 256, 250e6  # images decoded before they are asked for: of each thread at least, in all at most,
# and bytes: while the network works on a batch the next one is decoded


@dataclass(frozen=True)
class SourceOptions:
    """The fields of `config.data` that say how a file becomes an image.

    Attributes:
        kind: the source trained on, as "folder", "dicom", "npz"; of a prepared folder, what it was made from.
        window, slices, plane, spacing: see `DataConfig`.
    """

    kind: str = "folder"
    window: str = ""
    slices: str = "all"
    plane: str = "axial"
    spacing: float = 0.0


@dataclass(frozen=True)
class Entry:
    """An input that a user names: a file, or the files of a series, or one image in memory.

    Attributes:
        name: path as the user gave it, a table's cell, or the number of an array.
        source: where the pixels are.
        columns: other cells of a table's row.
    """

    name: str
    source: Path | tuple[Path, ...] | ImageSource
    columns: Mapping[str, str] = field(default_factory=dict)


def read_images(
    given: Any, geometry: Geometry, options: SourceOptions, threads: int | None = None
) -> Iterator[tuple[str, UInt8[np.ndarray, "... s s 3"] | str]]:
    """Yield the id of each image, and its pixels as `geometry.shape`, or the reason why it cannot be read.

    Args:
        given: as for `list_images`.
        geometry: size that the network takes.
        options: how a file becomes an image.
        threads: number of threads that decode ahead; None uses one per core.

    Raises:
        UserError: as `list_images`.
    """
    entries = list_images(given, volumes=bool(geometry.depth))
    for _, name, pixels in decoded(entries, geometry, options, threads):
        yield name, pixels


def list_images(given: Any, volumes: bool = False, image: str = "image", root: str = "") -> Iterator[Entry]:
    """Yield what is to be read, in a fixed order; no image is decoded yet.

    Args:
        given: an array or a list of them (see `array_images`); or a path or a list of them: an image, DICOM
            or NIfTI file, a folder of these with its sub-folders, a .npz file or a table of image names, a
            prepared folder. Any path may lie in a bucket.
        volumes: the network takes volumes: DICOM files of one series in a folder are one.
        image, root: of a table: the column with the names, and the folder above them (else the table's own).

    Raises:
        UserError: nothing at a path, a folder without images, arrays that are refused, a table or .npz of
            another layout.
    """
    several = isinstance(given, list | tuple) and any(_is_path(each) for each in given)
    if not several and not _is_path(given):
        for number, each in enumerate(array_images(given, volumes)):
            yield Entry(f"{number:06d}", each)
        return
    paths = list(given) if several else [given]
    for number, path in enumerate(paths):
        if not _is_path(path):
            raise UserError(f"image {number} is no path, as others are: give paths, or arrays")
    named = (each for path in paths for each in _listed(os.fspath(path), volumes, image, root))
    yield from _series(named) if volumes else named


def decoded(
    entries: Iterable[Entry], geometry: Geometry, options: SourceOptions, threads: int | None = None
) -> Iterator[tuple[Entry, str, UInt8[np.ndarray, "... s s 3"] | str]]:
    """Decode entries in threads, in their order and never more than a few ahead.

    Yields:
        (entry, id, pixels or the reason why not); a file of many frames gives many, as in training.
    """
    count = threads or os.cpu_count() or 1
    ahead = max(AHEAD[0] * count, int(min(AHEAD[1], AHEAD[2] / math.prod(geometry.shape))))

    def one(source: ImageSource) -> np.ndarray | str:
        try:
            return _decode(source, geometry)
        except UnreadableImageError as error:
            return str(error)
        except Exception as error:  # one file is not the reason why all others have no row
            return f"cannot be read ({reason(error)})"

    waiting: deque[tuple[Entry, str, Future[np.ndarray | str]]] = deque()
    with ThreadPoolExecutor(count) as pool:
        try:
            for entry, name, source in _expanded(entries, options, bool(geometry.depth)):
                waiting.append((entry, name, pool.submit(one, source)))
                if len(waiting) > ahead:
                    first, id, pixels = waiting.popleft()
                    yield first, id, pixels.result()
            while waiting:
                first, id, pixels = waiting.popleft()
                yield first, id, pixels.result()
        finally:
            pool.shutdown(cancel_futures=True)  # a caller that stops early waits for nothing


def decode_content(
    content: bytes, geometry: Geometry, options: SourceOptions, most: int
) -> UInt8[np.ndarray, "n ... s s 3"]:
    """Decode the images of a file that is in memory, of a kind that its first bytes tell: image or DICOM.

    Args:
        content: of the file.
        geometry, options: as `read_images`.
        most: frames, or slices of a volume, that are read of one file.

    Raises:
        UnreadableImageError: damaged, of another kind, or of too many pixels or frames.
        UserError: the extra for DICOM is not installed.
    """
    try:
        sources: Sequence[ImageSource]
        if content[128:132] != b"DICM":
            sources = [Encoded(content)]
        else:
            from ttl_jax.data.sources.dicom_listing import dicom_images

            slices = "volume" if geometry.depth else options.slices
            sources = dicom_images(content, slices, parse_window(options.window), options.spacing, most)
        return np.stack([_decode(each, geometry) for each in sources])
    except (UnreadableImageError, UserError):
        raise
    except Exception as error:  # as in `decoded`
        raise UnreadableImageError(f"cannot be read ({reason(error)})") from None


def _decode(source: ImageSource, geometry: Geometry) -> UInt8[np.ndarray, "... s s 3"]:
    if geometry.depth and not isinstance(source, Stack):
        raise UnreadableImageError("is a flat image, and this network takes volumes")
    if isinstance(source, Stack) and not geometry.depth:
        raise UnreadableImageError("is a volume, and this network takes flat images")
    return decode(source, geometry)


def _expanded(
    entries: Iterable[Entry], options: SourceOptions, volumes: bool
) -> Iterator[tuple[Entry, str, ImageSource]]:
    """Yield (entry, id, image): the frames or slices of a file that holds many."""
    for entry in entries:
        if not isinstance(entry.source, Path | tuple):
            yield entry, entry.name, entry.source
            continue
        try:
            images = file_images(entry.source, options, volumes)
        except UnreadableImageError as error:
            images = [Unreadable(str(error))]
        except UserError:
            raise
        except Exception as error:
            images = [Unreadable(f"cannot be read ({reason(error)})")]
        for number, each in enumerate(images):
            yield entry, f"{entry.name}#{number:04d}" if len(images) > 1 else entry.name, each


def file_images(
    source: Path | tuple[Path, ...], options: SourceOptions, volumes: bool = False
) -> Sequence[ImageSource]:
    """List the images of a file, as training with these options did; of several files, one volume.

    Raises:
        UnreadableImageError: a header that cannot be read.
        UserError: the extra for such files is not installed.
    """
    window, slices = parse_window(options.window), "volume" if volumes else options.slices
    if volumes and isinstance(source, Path) and source.is_dir():  # of a table's row
        source = one_series(source)
    if isinstance(source, tuple):
        from ttl_jax.data.sources.dicom_listing import series_volume

        return [series_volume(source, window, options.spacing)]
    if NIFTI.accepts(source):
        from ttl_jax.data.sources.nifti import nifti_images

        return nifti_images(source, options.plane, slices, window, options.spacing)
    if DICOM.accepts(source):
        from ttl_jax.data.sources.dicom_listing import dicom_images

        return dicom_images(source, slices, window, options.spacing)
    return [source]


def one_series(folder: Path) -> Path | tuple[Path, ...]:
    """The DICOM files of a folder of one series; raises UnreadableImageError for any other."""
    from ttl_jax.data.sources.dicom_listing import by_series

    files = sorted(file for file in folder.rglob("*") if DICOM.accepts(file))
    series = by_series(files) if files else []
    if len(series) != 1:
        raise UnreadableImageError(
            f"is a folder of {len(series) or 'no'} DICOM series; name the folder of one"
        )
    return series[0] if len(series[0]) > 1 else series[0][0]


def _is_path(given: Any) -> bool:
    return isinstance(given, str | os.PathLike)


def _listed(path: str, volumes: bool, image: str, root: str) -> Iterator[Entry]:
    """Yield the entries of one path."""
    here = Path(remote.local(path))
    if not here.exists():
        raise UserError(f"there is nothing at {path}; name a file or folder that is there")
    if here.name.lower().endswith(TABLES) and here.is_file():
        yield from _rows(here, image, remote.local(root))
    elif here.suffix.lower() == ".npz":
        for split, images in _npz(here).items():
            for number, each in enumerate(array_images(images, volumes)):
                yield Entry(f"{path}#{split}{number:06d}", each)
    elif (here / MANIFEST).is_file():
        listing = read_record(here)
        for name, each in zip(listing.ids.tolist(), listing.images, strict=True):
            yield Entry(f"{path}#{name}", each)
    elif here.is_dir():
        any_file = False
        for name in walk(here):
            any_file = True
            yield Entry(os.path.join(path, name), here / name)
        if not any_file:
            raise UserError(f"{path} holds no image, DICOM or NIfTI file")
    else:
        yield Entry(path, here)


def _npz(path: Path) -> dict[str, np.ndarray]:
    """Return the images of a file: MedMNIST's arrays by split, "images", or its only array."""
    arrays = read_npz_arrays(path)
    splits = {f"{name}/": arrays[f"{name}_images"] for name in SPLITS if f"{name}_images" in arrays}
    if splits:
        return splits
    if "images" in arrays or len(arrays) == 1:
        return {"": arrays["images"] if "images" in arrays else next(iter(arrays.values()))}
    raise UserError(
        f"{path} has the arrays {', '.join(sorted(arrays))}; call the one with the images `images`"
    )


def _rows(path: Path, image: str, root: str) -> Iterator[Entry]:
    table = read_csv(path)
    names = table.column(image, "image")
    files = find_files(table, names, Path(root) if root else path.parent, "skip", ANY)
    others = {name: cells for name, cells in table.columns.items() if name != image}
    for row, (name, file) in enumerate(zip(names, files, strict=True)):
        yield Entry(name, file, {column: cells[row] for column, cells in others.items()})


def walk(folder: Path, below: str = "", above: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the images under a folder as relative paths: its files by name, then its sub-folders'.

    Hidden files are passed over, and those of no kind that is known. Links are followed.

    Raises:
        UserError: a folder that cannot be listed, or a link to a folder above itself.
    """
    place, real = folder / below, os.path.realpath(folder / below)
    if real in above:
        raise UserError(f"{place} is a link to a folder above itself; remove the link")
    try:
        with os.scandir(place) as found:
            names = sorted((item.is_dir(), item.name) for item in found)
    except OSError as error:
        raise UserError(f"{place} cannot be listed ({error.strerror}); check its rights") from None
    for is_folder, name in names:
        if name.startswith(".") or name == "__MACOSX":
            continue
        if is_folder:
            yield from walk(folder, os.path.join(below, name), (*above, real))
        elif ANY.accepts(place / name):
            yield os.path.join(below, name)


def _series(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Join the DICOM files of one series in one folder to one entry."""
    for parent, own in groupby(entries, lambda entry: _parent(entry.source)):
        if parent is None:
            yield from own
            continue
        from ttl_jax.data.sources.dicom_listing import by_series

        files = {entry.source: entry for entry in own}
        groups = by_series(list(files))  # type: ignore[arg-type]
        for paths in groups:
            first = files[paths[0]]
            name = os.path.dirname(first.name) if len(groups) == 1 and len(paths) > 1 else first.name
            yield Entry(name, paths if len(paths) > 1 else paths[0], first.columns)


def _parent(source: Any) -> Path | None:
    """The folder of a DICOM file; None for all else."""
    return source.parent if isinstance(source, Path) and DICOM.accepts(source) else None
