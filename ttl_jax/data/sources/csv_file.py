"""Reading a CSV file as text: byte-order marks, encodings, delimiters, ragged rows."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ttl_jax.errors import UserError, nearest

_SEP = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_SAMPLE = 100_000  # characters in which the delimiter is looked for


@dataclass(frozen=True)
class CsvFile:
    """A table of text.

    Attributes:
        path: The file.
        columns: Column name -> cells, stripped of surrounding blanks.
        rows: Number of each row's last line in the file (the header is line 1).
    """

    path: Path
    columns: dict[str, list[str]]
    rows: list[int]

    def column(self, name: str, field: str) -> list[str]:
        """Return the cells of a column.

        Args:
            name: Name of the column.
            field: The config field that named it, for the message.

        Raises:
            UserError: no such column; the nearest is named.
        """
        if name not in self.columns:
            raise UserError(
                f"{self.path} has no column {name!r} for data.{field}"
                f"{nearest(name, tuple(column for column in self.columns if len(column) < 100))}"
            )
        return self.columns[name]

    def at(self, index: int) -> str:
        """Return the place of a row, for messages."""
        return f"{self.path}, row {self.rows[index]}"


def quoted(text: object, limit: int = 120) -> str:
    """Return a cell or a path in quotes, on one line and with its middle left out where it is long."""
    shown = repr(str(text))
    return shown if len(shown) <= limit else f"{shown[: limit // 2]}...{shown[-limit // 2 :]}"


def read_csv(path: str | Path) -> CsvFile:
    """Read a table with a header.

    The delimiter is the comma, semicolon, tab or bar that gives the rows as many cells as the header, or the
    one that a first line such as "sep=;" names (Excel's).

    Raises:
        UserError: missing, no table, no rows, a repeated column, a row of another length.
    """
    path = Path(path)
    text = _text(path)
    first, _, rest = text.lstrip().partition("\n")
    named = _SEP.fullmatch(first.strip(" \r"))
    text, above = (rest, 1) if named else (text, 0)
    delimiter = named[1] if named else _delimiter(text)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    cells: list[list[str]] = []
    rows: list[int] = []
    try:
        for line in lines:
            values = [value.strip() for value in line]
            if not any(values):
                continue  # a blank line, or what a spreadsheet leaves below the table
            if not header:
                header = _header(path, values)
                continue
            if len(values) != len(header):
                raise UserError(
                    f"{path}, row {lines.line_num + above} has {len(values)} cells where the header has "
                    f"{len(header)}; mend the row (a cell with a delimiter in it needs quotes)"
                )
            cells.append(values)
            rows.append(lines.line_num + above)
    except csv.Error as error:
        raise UserError(
            f"{path}, row {lines.line_num + above} is not CSV ({error}); mend the quotes in it"
        ) from None
    if not cells:
        raise UserError(f"{path} has no rows; the first line is the header, examples follow it")
    return CsvFile(path, {name: [row[place] for row in cells] for place, name in enumerate(header)}, rows)


def _delimiter(text: str) -> str:
    """Return the delimiter that gives the first rows the header's number of cells, the most if several do."""
    first = text.lstrip().partition("\n")[0]
    likely = sorted(",;\t|", key=first.count, reverse=True)  # a comma where there is none of them
    sample = text[:_SAMPLE]
    if len(text) > _SAMPLE:
        sample = sample.rpartition("\n")[0] or sample
    for delimiter in likely:
        try:
            rows = list(csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, strict=True))
        except csv.Error:
            continue
        counts = {len(row) for row in rows if any(cell.strip() for cell in row)}
        if len(counts) == 1 and counts != {1}:
            return delimiter
    return likely[0]


def _header(path: Path, values: list[str]) -> list[str]:
    # pandas writes its index under an empty name
    names = [value or f"column {place + 1}" for place, value in enumerate(values)]
    counts = Counter(names)
    for name in names:
        if counts[name] > 1:
            raise UserError(f"{path} has two columns named {quoted(name)}; rename one of them")
    return names


def _text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UserError(f"{path} cannot be read (it is a pipe or a device); name a CSV file")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"data.path={str(path)!r} does not exist; name the CSV file") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name a CSV file") from None
    encoding = "utf-8-sig"
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        try:
            text = raw.decode("cp1252")
        except UnicodeDecodeError:
            text = "\0"
        row = raw.count(b"\n", 0, error.start) + 1
        if "\0" not in text:
            print(f"{path}: row {row} is not UTF-8; the file is read as Windows-1252", flush=True)
    if "\0" in text:
        raise UserError(f"{path} is not a text file; export the table as CSV in UTF-8")
    return text
