"""Label columns of text to class numbers, or to 0, 1 and unknown, as data.labels says or they are meant."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple
from unicodedata import category

import numpy as np

from ttl_jax.data.sources.csv_file import quoted
from ttl_jax.errors import UserError
from ttl_jax.typing import Float, Int

_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
MISSING = ("", "nan", "na", "n/a", "null")
_KNOWN = {
    "0": 0.0, "0.0": 0.0, "false": 0.0, "no": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0, "yes": 1.0,
    "-1": np.nan, "-1.0": np.nan,
}  # fmt: skip
_LIST = re.compile(r"\[.*\]|\(.*\)|\{.*\}", re.DOTALL)
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_NOTHING = ("nofinding", "nofindings", "normal", "healthy", "none", "negative", "nolabel")


class Labels(NamedTuple):
    """Labels of all images.

    Attributes:
        values: int32 (N,) class numbers, or float32 (N, L) of 0, 1 and NaN (unknown).
        names: names of the classes or labels.
        notes: sentences on how they were read, where that goes beyond one class a cell.
    """

    values: np.ndarray
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_labels(
    names: tuple[str, ...], columns: list[list[str]], at: Callable[[int], str], how: str
) -> Labels:
    """Read label columns as `data.labels` says.

    Args:
        names: Names of the columns.
        columns: Their cells, as text.
        at: Returns the place of a row, for messages.
        how: "auto", "classes", "several" or "columns", see `DataConfig.labels`.

    Raises:
        UserError: as `class_labels`, `known_labels`, or labels that are no such thing.
    """
    if len(names) > 1:
        if how == "classes" or how == "auto" and _one_hot(columns):
            return one_hot_classes(names, known_labels(names, columns, at), at)
        return Labels(known_labels(names, columns, at), names)
    (name,), (cells,) = names, columns
    filled = {cell for cell in cells if cell.lower() not in MISSING}
    yes_or_no = {cell.lower() for cell in filled} <= _KNOWN.keys()
    if how == "several" and yes_or_no:
        return Labels(known_labels(names, columns, at), names)
    mark = _separator(filled) if how in ("auto", "several") else ""
    if how == "several" or mark:
        return _word_labels(name, cells, mark or "|", at)
    uncertain = yes_or_no and len(filled) < len(set(cells)) and not {"-1", "-1.0"}.isdisjoint(filled)
    if how == "auto" and uncertain:  # CheXpert's: present, absent, uncertain and not mentioned
        note = f"column {name!r} is one label of 1, 0 and unknown (-1 or empty)"
        return Labels(known_labels(names, columns, at), names, (note,))
    return Labels(*class_labels(name, cells, at))


def _one_hot(columns: list[list[str]]) -> bool:
    """Return True if each row has a single 1 and else 0."""
    known = [[_KNOWN.get(cell.lower(), np.nan) for cell in row] for row in zip(*columns, strict=True)]
    return all(sum(row) == 1 for row in known)  # NaN equals nothing


def one_hot_classes(
    names: tuple[str, ...], labels: Float[np.ndarray, "N L"], at: Callable[[int], str]
) -> Labels:
    """Return the class of each row of a one-hot table.

    Raises:
        UserError: a row with no 1, or several.
    """
    bad = np.flatnonzero(~(labels.sum(axis=1) == 1) | np.isnan(labels).any(axis=1))
    if len(bad):
        raise UserError(
            f"{at(int(bad[0]))} has not one 1 and else 0 in {', '.join(names[:5])}; data.labels=several "
            "reads them as labels of their own"
        )
    note = f"one-hot over {len(names)} columns: one class an image (data.labels=several: a yes or no of each)"
    return Labels(labels.argmax(axis=1).astype(np.int32), names, (note,))


def _separator(filled: set[str]) -> str:
    """Return what stands between several labels in a cell: "[" for lists, one of "|;,/+&", "" for none.

    A bar or semicolon parts labels if one of the words stands in another cell too; the others, which names of
    classes have, only if all of a cell's words are cells of their own.
    """
    lists = [cell for cell in filled if _LIST.fullmatch(cell)]
    if any(len(inside := _pieces(cell, "[")) > 1 and filled.issuperset(inside) for cell in lists):
        return "["
    bare = len(lists) == len(filled) and any("," in cell or len(cell) == 2 for cell in lists)
    if bare or any(_QUOTED.search(cell) for cell in lists):
        return "["
    for mark in "|;":
        counts = Counter(piece for cell in filled for piece in set(_pieces(cell, mark)))
        if any(mark in cell and any(counts[piece] > 1 for piece in _pieces(cell, mark)) for cell in filled):
            return mark
    for mark in ",/+&":
        if any(len(inside := _pieces(cell, mark)) > 1 and filled.issuperset(inside) for cell in filled):
            return mark
    return ""


def _pieces(cell: str, mark: str) -> list[str]:
    """Return the labels in a cell: 'a|b', or of mark "[" "['a', 'b']" and "[a, b]"."""
    if mark != "[" or not _LIST.fullmatch(cell):
        pieces: Sequence[str] = cell.split(mark)
    elif _QUOTED.search(cell):
        pieces = [one or other for one, other in _QUOTED.findall(cell)]
    else:
        pieces = cell[1:-1].split(",")
    return [piece.strip() for piece in pieces if piece.strip()]


def _word_labels(name: str, cells: list[str], mark: str, at: Callable[[int], str]) -> Labels:
    """Return several labels for each row, from cells that name those that are present."""
    for row, cell in enumerate(cells):
        if cell.lower() in MISSING:
            raise UserError(
                f"{at(row)} has no label in column {name!r} ({quoted(cell)}); fill it in or remove the row"
            )
    named = [_pieces(cell, mark) for cell in cells]
    alone = {pieces[0] for pieces in named if len(pieces) == 1}
    joined = {piece for pieces in named if len(pieces) > 1 for piece in pieces}
    nothing = {word for word in alone - joined if re.sub(r"[\W_]+", "", word.lower()) in _NOTHING}
    names = tuple(sorted((alone | joined) - nothing))
    if not names:
        raise UserError(f"label column {name!r} names no label; name the right one in data.label")
    number = {word: place for place, word in enumerate(names)}
    labels = np.zeros((len(cells), len(names)), np.float32)
    for row, pieces in enumerate(named):
        labels[row, [number[piece] for piece in pieces if piece not in nothing]] = 1
    check_known(names, labels)
    how = "a list a cell" if mark == "[" else f"split at {mark!r}"
    none = f", {' and '.join(map(repr, sorted(nothing)))} meaning none of them" if nothing else ""
    note = f"column {name!r}, {how}: {len(names)} labels, several an image{none}"
    return Labels(labels, names, (f"{note} (data.labels=classes: one class a cell)",))


def class_labels(
    name: str, cells: list[str], at: Callable[[int], str]
) -> tuple[Int[np.ndarray, " N"], tuple[str, ...]]:
    """Return one class for each row.

    Args:
        name: Name of the column.
        cells: Text of the column: all integers (classes in the order of their values) or all words.
        at: Returns the place of a row, for messages.

    Returns:
        int32 (N,) class numbers, and the sorted class names.

    Raises:
        UserError: an empty cell, a fraction, integers mixed with words, names alike when `folded`, one class
            only, or as many classes as rows.
    """
    cells = [without_fraction(cell) for cell in cells]
    kinds = [_kind(cell) for cell in cells]
    yes_or_no = all(cell.lower() in (*_KNOWN, *MISSING) for cell in cells)
    for row, (cell, kind) in enumerate(zip(cells, kinds, strict=True)):
        if kind == "nothing":
            raise UserError(
                f"{at(row)} has no label in column {name!r} ({quoted(cell)}); fill it in or remove the row"
                + (", or read it as unknown with data.labels=several" if yes_or_no else "")
            )
        if kind == "a fraction":
            raise UserError(
                f"{at(row)} has {quoted(cell)[1:-1]} in label column {name!r}; a class is a word or an "
                "integer, so write one, or name the right column in data.label"
            )
        if kind != kinds[0]:
            raise UserError(
                f"{at(row)} has {kind} ({quoted(cell)}) in label column {name!r} where the rows above have "
                f"{kinds[0]}; write all classes the same way"
            )
    if kinds[0] == "an integer":
        values = [int(cell) for cell in cells]
        names = tuple(str(value) for value in sorted(set(values)))
        keys = [str(value) for value in values]
    else:
        keys, names = cells, tuple(sorted(set(cells)))
        _refuse_twins(name, cells, at)
    if len(names) < 2:
        raise UserError(
            f"label column {name!r} has one class only ({quoted(names[0])[1:-1]}); there is nothing to learn"
        )
    if len(names) == len(keys) > 2:
        raise UserError(
            f"label column {name!r} has another value in every row, as {quoted(names[0])} and "
            f"{quoted(names[1])}; name the column with the classes in data.label"
        )
    number = {key: place for place, key in enumerate(names)}
    return np.array([number[key] for key in keys], np.int32), names


def known_labels(
    names: tuple[str, ...], columns: list[list[str]], at: Callable[[int], str]
) -> Float[np.ndarray, "N L"]:
    """Return several labels for each row: 1 present, 0 absent, NaN unknown (empty or -1).

    Raises:
        UserError: another value, or a label of which only one value is known.
    """
    labels = np.empty((len(columns[0]), len(names)), np.float32)
    for place, (name, cells) in enumerate(zip(names, columns, strict=True)):
        for row, cell in enumerate(cells):
            if cell.lower() in MISSING:
                labels[row, place] = np.nan
            elif cell.lower() in _KNOWN:
                labels[row, place] = _KNOWN[cell.lower()]
            else:
                raise UserError(
                    f"{at(row)} has {quoted(cell)} in label column {name!r}; several labels take 1, 0, or "
                    "nothing (or -1) for unknown"
                )
    check_known(names, labels)
    return labels


def check_known(names: tuple[str, ...], labels: Float[np.ndarray, "N L"]) -> None:
    """Refuse a label that is never 0 or never 1.

    Raises:
        UserError: naming the label.
    """
    for place, name in enumerate(names):
        counts = Counter(labels[~np.isnan(labels[:, place]), place].tolist())
        if len(counts) < 2:
            only = f"only {int(next(iter(counts)))}" if counts else "nothing known"
            raise UserError(f"label {name!r} has {only} in it; leave it out of data.label")


def without_fraction(cell: str) -> str:
    """Return a whole number without its fraction: pandas writes 1 as 1.0 once a cell was empty."""
    return str(int(float(cell))) if re.fullmatch(r"[+-]?\d{1,15}\.0*", cell) else cell


def _kind(cell: str) -> str:
    if cell.lower() in MISSING:
        return "nothing"
    if _INTEGER.fullmatch(cell):
        return "an integer"
    return "a fraction" if _NUMBER.fullmatch(cell) else "a word"


def folded(text: str) -> str:
    """Text without case, forms of accents and unseen letters: texts that share it are read as the same."""
    seen = "".join(letter for letter in unicodedata.normalize("NFKC", text) if category(letter) != "Cf")
    return unicodedata.normalize("NFKC", seen.casefold()).strip()


def _refuse_twins(name: str, cells: list[str], at: Callable[[int], str]) -> None:
    spelt: dict[str, str] = {}
    for row, cell in enumerate(cells):
        first = spelt.setdefault(folded(cell), cell)
        if first != cell:
            raise UserError(
                f"{at(row)} has {quoted(cell)} in label column {name!r} and a row above has {quoted(first)}; "
                "write the class one way"
            )
