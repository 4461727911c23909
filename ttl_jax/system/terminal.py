"""Tables in a terminal: a word is never broken, whatever the width."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from ttl_jax.errors import escaped, readable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

GAP = 2  # columns between two cells


def console(file: IO[str] | None = None, columns: int | None = None, elsewhere: int = 110) -> Console:
    """A console that is as wide as the terminal.

    Args:
        file: file to write to; None is standard output.
        columns: width; None is that of COLUMNS or of the terminal.
        elsewhere: width where neither is known, as in a file.
    """
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise  # as of every other print; rich would end with status 1

        def print(self, *objects: Any, **options: Any) -> None:
            super().print(*(escaped(each) if isinstance(each, str) else each for each in objects), **options)

    width = columns or shutil.get_terminal_size((elsewhere, 0)).columns
    return Plain(file=file, width=width, highlight=False, markup=False, emoji=False)


def say(*lines: str) -> None:
    """Prints lines: on a terminal broken between words, elsewhere as they are."""
    out = console()
    for line in lines:
        out.print(line, soft_wrap=not out.is_terminal)


def table(
    rows: Sequence[Mapping[str, object]], columns: int, bold: Collection[int] = (), caption: str = ""
) -> RenderableType:
    """Rows as a table; where its words do not fit, a column a row, or else a block of lines a row.

    Args:
        rows: rows of the same titles; whole numbers get commas, columns of numbers stand right.
        columns: width to fit in.
        bold: numbers of rows that stand out.
        caption: line below.
    """
    from rich.console import Group
    from rich.text import Text

    titles = list(rows[0]) if rows else []
    lines = [titles, *([_text(row[title]) for title in titles] for row in rows)]
    turned = [list(line) for line in zip(*lines, strict=True)]
    if (widths := _widths(lines, columns)) is not None:
        made = _side_by_side(lines, widths, bold)
    elif (widths := _widths(turned, columns)) is not None:
        made = _side_by_side(turned, widths)
    else:
        made = _blocks(lines, bold)
    return Group(made, Text(caption, style="italic")) if caption else made


def without_constants(
    rows: Sequence[Mapping[str, object]], titles: Sequence[str]
) -> tuple[str, list[dict[str, object]]]:
    """Rows without those of the titled columns that say the same in each, and these as "model resnet50; "."""
    same = {title: {row[title] for row in rows} for title in titles}
    said = "".join(f"{title} {values.pop()}; " for title, values in same.items() if len(values) == 1)
    kept = [{title: row[title] for title in row if same.get(title, True)} for row in rows]
    return said, kept


def _side_by_side(
    lines: Sequence[Sequence[str]], widths: Sequence[int], bold: Collection[int] = ()
) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, GAP - 1, 0, 0))
    titles, *rows = lines
    for title, width, *cells in zip(titles, widths, *rows, strict=True):
        right = all(map(_numeric, cells))
        made.add_column(Text(title), width=width, justify="right" if right else "left", overflow="fold")
    for place, row in enumerate(rows):
        made.add_row(*map(Text, row), style="bold" if place in bold else None)
    return made


def _blocks(lines: Sequence[Sequence[str]], bold: Collection[int]) -> RenderableType:
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    titles, *rows = lines
    blocks: list[RenderableType] = []
    for place, (first, *others) in enumerate(rows):
        grid = Table.grid(padding=(0, GAP, 0, 0))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for title, cell in zip(titles[1:], others, strict=True):
            if cell:
                grid.add_row(Text(title), Text(cell))
        style = "bold reverse" if place in bold else "bold"
        blocks += [Text(f"{titles[0]} {first}", style=style), Padding(grid, (0, 0, 0, 2), expand=False)]
    return Group(*blocks)


def _widths(lines: Sequence[Sequence[str]], columns: int) -> list[int] | None:
    """The width of each column, at least that of its longest word; None where these do not fit."""
    from rich.cells import cell_len

    by_column = list(zip(*lines, strict=True))
    widths = [max(map(cell_len, column)) for column in by_column]
    least = [max(cell_len(word) for cell in column for word in cell.split() or [""]) for column in by_column]
    room = columns - GAP * (len(widths) - 1)
    if sum(least) > room:
        return None
    while sum(widths) > room:  # the widest gives
        gives = [place for place, width in enumerate(widths) if width > least[place]]
        widths[max(gives, key=widths.__getitem__)] -= 1
    return widths


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        return readable(str(value))
    return f"{value:,}"


def _numeric(text: str) -> bool:
    """Return whether a cell reads as a number, with or without a unit or a spread; an empty one does."""
    return text in ("", "–") or text.lstrip("+-−")[:1].isdigit() and ", " not in text
