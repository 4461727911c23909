"""The results as a table in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from ttl_jax.evaluation import registry
from ttl_jax.report import wording
from ttl_jax.report.rows import Row, metrics_of


def print_table(rows: Sequence[Row], file: IO[str] | None = None, width: int | None = None) -> None:
    """Prints a line a setting, with the mean ± sd over seeds.

    Args:
        rows: the rows, from `report.rows`.
        file: file to write to; None is standard output.
        width: columns of the terminal; None asks it (and does not cut where it is no terminal).
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    several_datasets = len({row.dataset for row in rows}) > 1
    splits = dict.fromkeys(row.split for row in rows)
    table = Table(box=box.SIMPLE_HEAD, title=None, pad_edge=False)
    if several_datasets:
        table.add_column("dataset", overflow="fold")
    table.add_column("model", overflow="fold")
    table.add_column("strategy", overflow="fold")
    known = dict.fromkeys((*registry.metrics(), *metrics_of(rows)))
    shown = [metric for metric in known if metric.in_table]
    titles = [f"{each.title} ({wording.title(each.chance)})" if each.chance else each.title for each in shown]
    for title in ("seeds", *titles, "trainable params", "time"):
        table.add_column(title, justify="right")
    for row in rows:
        cells = [row.dataset] if several_datasets else []
        cells += [row.model, _short(row), wording.seeds(row), *(_value(row, metric) for metric in shown)]
        cells += [wording.cost(row, "trainable_params"), wording.cost(row, "seconds")]
        table.add_row(*(Text(cell) for cell in cells), style="bold" if row.chosen else None)
    console = Console(file=file, width=width, highlight=False)
    if not console.is_terminal and width is None:
        console = Console(file=file, width=200, highlight=False)
    console.print(table)
    places = " and ".join("validation" if split == "val" else split for split in splits)
    of = "" if several_datasets or not rows else f"{rows[0].dataset}, "
    console.print(Text(f"{of}{places} split; ± is the standard deviation over seeds", style="dim"))
    for row in rows:
        if row.note:
            console.print(Text(f"{row.label}: {row.note}", style="yellow"))


def _short(row: Row) -> str:
    """The label without what has a column of its own."""
    return row.label.replace(f" · {row.model}", "").replace(f" · {row.dataset}", "")


def _value(row: Row, metric: registry.Metric) -> str:
    text = wording.metric(row.values.get(metric.name))
    return f"{text} ({wording.number(row.mean(metric.chance))})" if metric.chance in row.values else text
