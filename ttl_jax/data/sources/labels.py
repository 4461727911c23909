"""Label columns of text to class numbers, or to 0, 1 and unknown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import numpy as np

from ttl_jax.data.sources.csv_file import quoted
from ttl_jax.errors import UserError
from ttl_jax.typing import Float, Int

_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
MISSING = ("", "nan", "na", "n/a", "null")
_KNOWN = {"0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0, "-1": np.nan, "-1.0": np.nan}


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
        UserError: an empty cell, a fraction, integers mixed with words, names that differ in case
            only, one class only, or as many classes as rows.
    """
    kinds = [_kind(cell) for cell in cells]
    for row, (cell, kind) in enumerate(zip(cells, kinds, strict=True)):
        if kind == "nothing":
            raise UserError(
                f"{at(row)} has no label in column {name!r} ({quoted(cell)}); fill it in or remove the row"
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
        _refuse_case_twins(name, cells, at)
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
            elif cell in _KNOWN:
                labels[row, place] = _KNOWN[cell]
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


def _kind(cell: str) -> str:
    if cell.lower() in MISSING:
        return "nothing"
    if _INTEGER.fullmatch(cell):
        return "an integer"
    return "a fraction" if _NUMBER.fullmatch(cell) else "a word"


def _refuse_case_twins(name: str, cells: list[str], at: Callable[[int], str]) -> None:
    spelt: dict[str, str] = {}
    for row, cell in enumerate(cells):
        first = spelt.setdefault(cell.casefold(), cell)
        if first != cell:
            raise UserError(
                f"{at(row)} has {quoted(cell)} in label column {name!r} and a row above has {quoted(first)}; "
                "write the class one way"
            )
