"""Cells of CSV files that a spreadsheet takes for what they are: numbers for numbers, text for text."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

# What a spreadsheet would run or drop; the wide forms are those that Excel takes for the others.
_RUN = re.compile(r"'*\s*[=+\-@\t\r\n＝＋－＠]")  # noqa: RUF001
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def csv_cell(value: object) -> object:
    """A value as a cell: text that would begin a formula gets an apostrophe in front; numbers stay.

    `csv_text` takes it away again.
    """
    if not isinstance(value, str) or _NUMBER.fullmatch(value) or not _RUN.match(value):
        return value
    return f"'{value}"


def csv_line(cells: Iterable[object]) -> str:
    """A row of a CSV file, each cell a `csv_cell`; a carriage return stands in quotes, as a new line does."""
    held = io.StringIO()
    csv.writer(held).writerow(map(csv_cell, cells))  # it quotes what is in its own end of a line, CR and LF
    return held.getvalue()[:-2] + "\n"


def csv_text(cell: str) -> str:
    """The text of a cell: the inverse of `csv_cell`, whatever the text."""
    return cell[1:] if cell.startswith("'") and _RUN.match(cell) else cell
