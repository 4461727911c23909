"""DICOM files in class folders or named in a table; patients as groups, no identifying text kept."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ttl_jax.config.data import DataConfig
from ttl_jax.data.images.decode import ImageSource, Stack, UnreadableImageError
from ttl_jax.data.patient_key import hashed
from ttl_jax.data.sources.csv_file import read_csv
from ttl_jax.data.sources.csv_table import read_table
from ttl_jax.data.sources.dicom import DicomFrame, Header, read_header
from ttl_jax.data.sources.dicom_series import order
from ttl_jax.data.sources.file_kinds import DICOM
from ttl_jax.data.sources.folder import read_folder
from ttl_jax.data.sources.frames import Unreadable, check_slices, examples_of
from ttl_jax.data.sources.listing import TABLE, Listing, source
from ttl_jax.data.sources.window import Window, parse_window
from ttl_jax.errors import UserError, nearest


@dataclass(frozen=True)
class Found:
    """A file of the listing.

    Attributes:
        row: Row of the folder's or table's listing that names the file, or the folder that holds it.
        path: The file.
        header: The file's header, or the reason why it cannot be read.
        name: The example's id, hashed if it names the patient.
        group, drawn_by: Group of the `Header`, or of the table, and the name that a split draws it by.
    """

    row: int
    path: Path
    header: Header | str
    name: str
    group: str
    drawn_by: str


@source("dicom", *TABLE, "window", "slices", "depth", "spacing")
def read_dicom(config: DataConfig) -> Listing:
    """List DICOM files; each frame of a multi-frame file is an example (see `data.slices`).

    data.slices="volume": the files of one SeriesInstanceUID are one example, sorted along the normal of
    their planes, and so are the frames of a multi-frame file, in the file's order. A table's row may name
    the folder of one series. Without data.window each slice is windowed by its own file.

    The group is a keyed hash of PatientID (or of the DICOM keyword in `data.group`; "file" is the
    file itself). The key is that of
    `data.patient_key`. Where a file's name
    holds the patient's number or name, its id is a hash too.

    Args:
        config: Reads path (a folder of class folders, or a table), group, window, slices and spacing; for a
            table also root, image, label and split.

    Raises:
        UserError: pydicom is not installed, a field makes no sense, a file without the group's
            attribute, a series in two classes or splits, or a fault of the folder or the table.
    """
    _need_pydicom("data.name=dicom")
    window = parse_window(config.window)
    check_slices(config.slices)
    table = not Path(config.path).is_dir()
    column = bool(table and config.group and config.group in read_csv(config.path).columns)
    if table:
        files = read_table(config if column else replace(config, group=""), DICOM)
    else:
        files = read_folder(config.path, DICOM)
    keyword = "" if column else config.group or "PatientID"
    _check_keyword(keyword)
    whole = config.slices == "volume"
    listed_files: list[Found] = []
    hidden = 0
    for row, path in _paths(files, whole):
        name, group = str(files.ids[row]), str(files.groups[row])
        drawn_by = group
        header: Header | str
        names: frozenset[str] = frozenset()
        try:
            header = read_header(path, keyword)
        except UnreadableImageError as error:
            header = str(error)
        else:
            names = header.names
            if not column and not header.group:
                raise UserError(
                    f"{files.where[row]} has no {keyword} to tell patients apart; set data.group to another "
                    "DICOM keyword such as StudyInstanceUID, or to file"
                )
            group, drawn_by = (group, group) if column else (header.group, header.drawn_by)
        if keyword == "file":  # by its place in the folder, which may move as a whole
            group, drawn_by = f"group-{hashed(name)}", f"group-{hashed(name, keyed=False)}"
        identifying = _names_patient(name, names)
        hidden += identifying
        name = f"file-{hashed(name)}" if identifying else name
        listed_files.append(Found(row, path, header, name, group, drawn_by))
    if hidden:
        print(f"{hidden} file names hold the patient's number or name: their ids are hashed", flush=True)
    if whole:
        return _volumes(files, listed_files, window, config)
    pictures = [_examples(each, config.slices, window, config.spacing) for each in listed_files]
    listed = replace(
        files,
        ids=np.array([each.name for each in listed_files]),
        drawn_by=np.array([each.drawn_by for each in listed_files]),
    )
    return listed.expand(pictures, np.array([each.group for each in listed_files]))


def dicom_images(
    path: Path | bytes, slices: str, window: Window | str, spacing: float, most: int | None = None
) -> list[ImageSource]:
    """List the images of a file: its frames, or the volume of them.

    Args:
        path: The file, or its content.
        slices, window, spacing: See `DataConfig`.
        most: Frames that are read; None sets no limit.

    Raises:
        UserError: pydicom is not installed.
        UnreadableImageError: missing, damaged, without an image, or with more frames.
    """
    _need_pydicom("DICOM" if isinstance(path, bytes) else f"{path}: DICOM")
    frames = read_header(path, "").frames
    if most is not None and frames > most:
        raise UnreadableImageError(f"holds {frames} frames, and at most {most} are read at once")
    return examples_of(frames, slices, lambda number: DicomFrame(path, number, window, spacing))


def series_volume(paths: Sequence[Path], window: Window | str, spacing: float) -> ImageSource:
    """Return the volume of a series' files, sorted along the normal of their planes.

    Raises:
        UnreadableImageError: a file that is missing or damaged.
    """
    _need_pydicom(f"{paths[0]}: DICOM")
    frames = [Found(0, path, read_header(path, ""), "", "", "") for path in paths]
    return _stack(frames, window, spacing)


def by_series(paths: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Group single-frame files by their SeriesInstanceUID, in the order of the first; others stay alone."""
    _need_pydicom(f"{paths[0]}: DICOM")
    series: dict[str, list[Path]] = defaultdict(list)
    for number, path in enumerate(paths):
        try:
            header = read_header(path, "")
            known = header.place.series if header.frames == 1 else ""
        except UnreadableImageError:
            known = ""
        series[known or f"file {number}"].append(path)
    return [tuple(own) for own in series.values()]


def _need_pydicom(what: str) -> None:
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise UserError(f"{what} needs pydicom: pip install 'ttl-jax[dicom]'") from None


def _paths(files: Listing, whole: bool) -> Iterator[tuple[int, Path]]:
    """Yield (row, file); for volumes, a row that names a folder gives all DICOM files in it."""
    for row, path in enumerate(files.images):
        assert isinstance(path, Path)
        inside = (
            sorted(file for file in path.rglob("*") if DICOM.accepts(file)) if whole and path.is_dir() else []
        )
        for file in inside or [path]:
            yield row, file


def _examples(each: Found, slices: str, window: Window | str, spacing: float) -> list[ImageSource]:
    """Return the images of a file, or the volume that its frames form."""
    if isinstance(each.header, str):
        return [Unreadable.example(each.header, slices)]
    return examples_of(
        each.header.frames, slices, lambda number: DicomFrame(each.path, number, window, spacing)
    )


def _volumes(files: Listing, found: Sequence[Found], window: Window | str, config: DataConfig) -> Listing:
    """Return one example per series or multi-frame file; data.group="file" makes each its own group.

    Raises:
        UserError: a series in two classes, splits or groups, or a table's folder of several series.
    """
    series: dict[str, list[Found]] = defaultdict(list)
    for number, each in enumerate(found):
        single = not isinstance(each.header, str) and each.header.frames == 1 and each.header.place.series
        # A table's folder is one example: its unreadable files are the series' too.
        folder = files.images[each.row] != each.path
        series[single or (f"row {each.row}" if folder else f"file {number}")].append(each)
    images: list[ImageSource] = []
    where: list[str] = []
    names: list[str] = []
    listed: dict[int, str] = {}
    for uid, own in series.items():
        first = own[0]
        for each in own:
            for kind, one, other in (
                ("labels", files.labels[first.row], files.labels[each.row]),
                ("splits", files.splits[first.row], files.splits[each.row]),
                ("groups", first.group, each.group if config.group != "file" else first.group),
            ):
                if not np.array_equal(one, other, equal_nan=kind == "labels" and files.labels.ndim == 2):
                    raise UserError(
                        f"{first.path} and {each.path} are of one series but have two {kind}; give it one"
                    )
        folder = files.images[first.row] != first.path
        if folder and listed.setdefault(first.row, uid) != uid:
            raise UserError(
                f"{files.where[first.row]} is a folder of several series or of files that cannot be read; "
                "name the folder of one series"
            )
        images.append(_stack(own, window, config.spacing))
        where.append(
            files.where[first.row] if len(own) == 1 or folder else f"the series in {first.path.parent}"
        )
        beside = "".join(first.name.rpartition("/")[:2])
        names.append(first.name if len(own) == 1 or folder else f"{beside}series-{hashed(uid)}")
    return replace(
        files.take(np.array([own[0].row for own in series.values()])),
        images=images,
        where=where,
        ids=np.array(names),
        groups=np.array([own[0].group for own in series.values()]),
        drawn_by=np.array([own[0].drawn_by for own in series.values()]),
    )


def _stack(own: Sequence[Found], window: Window | str, spacing: float) -> ImageSource:
    """Return the volume of a series or a file; an unreadable example if its order is unknown."""
    if len(own) == 1:
        return _examples(own[0], "volume", window, spacing)[0]
    try:
        sorted_, millimetres = order([each.header.place for each in own if not isinstance(each.header, str)])
    except UnreadableImageError as error:
        return Unreadable.example(str(error), "volume")
    if millimetres and spacing:
        millimetres = (millimetres[0], spacing, spacing)
    return Stack(tuple(DicomFrame(own[place].path, 0, window, spacing) for place in sorted_), millimetres)


def _check_keyword(keyword: str) -> None:
    from pydicom.datadict import keyword_dict

    if keyword not in ("", "file") and keyword not in keyword_dict:
        hint = nearest(keyword, tuple(keyword_dict))
        raise UserError(f"data.group={keyword!r} is no DICOM keyword, and no column of a table{hint}")


def _names_patient(file: str, names: frozenset[str]) -> bool:
    """Return True if a file's name holds one of the names as a part, or a long one anywhere."""
    parts = set(re.split(r"[\W_]+", file.lower()))
    joined = re.sub(r"[\W_]+", "", file.lower())
    return any(name in parts or (len(name) > 4 and name in joined) for name in names)
