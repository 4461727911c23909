"""Images named in a CSV file, with labels, groups and splits in its columns."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from pathlib import Path

import numpy as np

from ttl_jax.config.data import DataConfig
from ttl_jax.data.sources.csv_file import CsvFile, quoted, read_csv
from ttl_jax.data.sources.file_kinds import IMAGES, FileKind
from ttl_jax.data.sources.label_columns import MISSING, folded, read_labels, without_fraction
from ttl_jax.data.sources.listing import SPLIT_ALIASES, TABLE, Listing, no_splits, source
from ttl_jax.errors import UserError

_PLAIN_NUMBER = re.compile(r"[+-]?(?!0\d)\d{1,15}(\.\d*)?([eE][+-]?\d+)?")


@source("csv", *TABLE)
def read_table(config: DataConfig, kind: FileKind = IMAGES) -> Listing:
    """List the rows of `config.path`.

    Args:
        config: Reads path, root, image, label, group, split and on_error.
        kind: Kind of file that a name without ending may mean.

    Raises:
        UserError: the table, a column or a row is wrong; the sentence names it.
    """
    table = read_csv(config.path)
    names = tuple(name.strip() for name in config.label.split(",") if name.strip())
    if not names:
        raise UserError("data.label is empty; name the column with the classes")
    if len(set(names)) < len(names):
        raise UserError(f"data.label={config.label!r} names a column twice")
    cells = [table.column(name, "label") for name in names]
    images = table.column(config.image, "image")
    _refuse_repeated(table, images)
    root = Path(config.root) if config.root else Path(config.path).parent
    files = find_files(table, images, root, config.on_error, kind)
    labels = read_labels(names, cells, table.at, config.labels)
    used = {config.image, config.group, config.split, *names}
    return Listing(
        source=str(table.path),
        images=files,
        where=[f"{table.at(row)}: {_plain(file)}" for row, file in enumerate(files)],
        labels=labels.values,
        ids=np.array(images),
        groups=_groups(table, images, config.group),
        class_names=labels.names,
        task="multilabel" if labels.values.ndim == 2 else "multiclass",
        splits=_splits(table, config.split),
        splits_from=f"column {config.split!r} of {table.path}",
        columns={name: _typed(values) for name, values in table.columns.items() if name not in used},
        notes=labels.notes,
    )


def _plain(file: Path) -> str:
    """A path for messages; in quotes where it is long or no line of plain text."""
    text = str(file)
    return text if len(text) < 300 and text.isprintable() else quoted(text)


def _refuse_repeated(table: CsvFile, images: list[str]) -> None:
    first: dict[str, int] = {}
    for row, image in enumerate(images):
        if not image:
            raise UserError(f"{table.at(row)} names no image; fill it in or remove the row")
        if image in first:
            raise UserError(
                f"{table.at(row)} names image {quoted(image)}, which row {table.rows[first[image]]} names "
                "too; keep one row for each image"
            )
        first[image] = row


def find_files(table: CsvFile, images: list[str], root: Path, on_error: str, kind: FileKind) -> list[Path]:
    """Return the file of each row: the name as it stands, or with the ending of the one file that fits."""
    if not root.is_dir():
        raise UserError(f"data.root={str(root)!r} is not a folder; name the one with the images")
    listed: dict[Path, tuple[set[str], dict[str, list[str]]]] = {}
    files: list[Path] = []
    first: dict[Path, int] = {}
    missing: list[int] = []
    for row, image in enumerate(images):
        file = _inside(table, row, image, root)
        if file.parent not in listed:
            listed[file.parent] = _names_in(file.parent, kind)
        names, by_stem = listed[file.parent]
        if file.name not in names:
            key = unicodedata.normalize("NFC", file.name)
            fits = by_stem[key] if key in by_stem else []
            if len(fits) > 1:
                raise UserError(
                    f"{table.at(row)} names image {quoted(image)}, which could be {' or '.join(fits)} in "
                    f"{file.parent}; write the ending"
                )
            if fits:
                file = file.parent / fits[0]
            else:
                missing.append(row)
        if first.setdefault(file, row) != row:
            raise UserError(
                f"{table.at(row)} names image {quoted(image)}, the file of row {table.rows[first[file]]} too "
                f"({file}); keep one row for each image"
            )
        files.append(file)
    if missing and on_error != "skip":
        more = f" (and {len(missing) - 1} rows more)" if len(missing) > 1 else ""
        below = _below(files[missing[0]], root, kind)
        remedy = f"set data.root={below}" if below else "check data.root and data.image"
        raise UserError(
            f"{table.at(missing[0])} names image {quoted(images[missing[0]])}{more}, but there is no "
            f"{quoted(files[missing[0]])}; {remedy}, or set data.on_error=skip"
        )
    return files


def _below(file: Path, root: Path, kind: FileKind) -> Path | None:
    """Return the folder in `root` from which the file's name leads to one; None where none does."""
    inside = file.relative_to(root)
    for folder in sorted(each for each in root.iterdir() if each.is_dir()):
        names, by_stem = _names_in((folder / inside).parent, kind)
        if inside.name in names or inside.name in by_stem:
            return folder
    return None


def _inside(table: CsvFile, row: int, image: str, root: Path) -> Path:
    # Only the text is judged: links under the root are the user's own.
    base = os.path.abspath(root)
    full = os.path.normpath(os.path.join(base, image.replace("\\", "/")))
    if os.path.commonpath([base, full]) != base or full == base:
        raise UserError(
            f"{table.at(row)} names image {quoted(image)}, which leads out of data.root={str(root)!r}; "
            "set data.root to the folder above all images"
        )
    return root / os.path.relpath(full, base)


def _names_in(folder: Path, kind: FileKind) -> tuple[set[str], dict[str, list[str]]]:
    """The names in a folder, and those that a text may mean: without ending, or with its accents
    composed in another way (macOS takes them apart)."""
    if not os.path.isdir(folder):
        return set(), {}
    meant: dict[str, list[str]] = defaultdict(list)
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(f"{folder} cannot be listed ({error.strerror}); check its rights") from None
    for name in names:
        for text in {name, kind.stem(name) or name}:
            meant[unicodedata.normalize("NFC", text)].append(name)
    return set(names), dict(meant)


def _groups(table: CsvFile, images: list[str], column: str) -> np.ndarray:
    if not column:
        return np.array(images)
    groups = table.column(column, "group")
    for row, group in enumerate(groups):
        if group.lower() in MISSING:
            raise UserError(
                f"{table.at(row)} has no group ({quoted(group)}) in column {column!r}; fill it in, with a "
                "name of its own where the patient is unknown"
            )
    first: dict[str, str] = {}
    named = [first.setdefault(folded(without_fraction(group)), group) for group in groups]
    twins = [row for row, (one, other) in enumerate(zip(groups, named, strict=True)) if one != other]
    if twins:  # no names: this may stand in a log
        count = len({named[row] for row in twins})
        print(
            f"{count} of the groups in column {column!r} are written in several ways ({table.at(twins[0])} "
            "differs in case, accents or .0 alone from a row above): each is taken for one",
            flush=True,
        )
    return np.array(named)


def _splits(table: CsvFile, column: str) -> np.ndarray:
    if not column:
        return no_splits(len(table.rows))
    splits = []
    for row, cell in enumerate(table.column(column, "split")):
        if cell.lower() not in SPLIT_ALIASES:
            raise UserError(
                f"{table.at(row)} has {quoted(cell)} in split column {column!r}; write train, val or test"
            )
        splits.append(SPLIT_ALIASES[cell.lower()])
    return np.array(splits)


def _typed(cells: list[str]) -> np.ndarray:
    """float64 with NaN for missing cells where all others are plain numbers, else text.

    Codes with leading zeros or more than 15 digits stay text, as floats would change them.
    """
    filled = [cell for cell in cells if cell.lower() not in MISSING]
    if filled and all(_PLAIN_NUMBER.fullmatch(cell) for cell in filled):
        return np.array([np.nan if cell.lower() in MISSING else float(cell) for cell in cells])
    return np.array(cells)
