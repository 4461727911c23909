"""The results as a table in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from ttl_jax.evaluation import registry
from ttl_jax.report import wording
from ttl_jax.report.rows import Row, metrics_of
from ttl_jax.system import terminal


def print_table(rows: Sequence[Row], file: IO[str] | None = None, width: int | None = None) -> None:
    """Prints a line a setting, with the mean ± sd over seeds.

    Args:
        rows: the rows, from `report.rows`.
        file: file to write to; None is standard output.
        width: columns of the terminal; None asks it (and does not cut where it is no terminal).
    """
    from rich.text import Text

    splits = dict.fromkeys(row.split for row in rows)
    known = dict.fromkeys((*registry.metrics(), *metrics_of(rows)))
    shown = [metric for metric in known if metric.in_table]
    lines = [
        {
            "strategy": _short(row),
            "data set": row.dataset,
            "model": row.model,
            "seeds": wording.seeds(row),
            **{_title(metric): _value(row, metric) for metric in shown},
            "trainable": wording.cost(row, "trainable_params"),
            "time": wording.cost(row, "seconds"),
        }
        for row in rows
    ]
    said, shown_lines = terminal.without_constants(lines, ("data set", "model"))
    console = terminal.console(file, width, elsewhere=200)
    bold = {place for place, row in enumerate(rows) if row.chosen}
    console.print(terminal.table(shown_lines, console.width, bold))
    places = " and ".join("validation" if split == "val" else split for split in splits)
    console.print(Text(f"{said}{places} split; ± is the standard deviation over seeds", style="dim"))
    for row in rows:
        if row.note:
            console.print(Text(f"{row.label}: {row.note}", style="yellow"))


def _title(metric: registry.Metric) -> str:
    return f"{metric.title} ({wording.title(metric.chance)})" if metric.chance else metric.title


def _short(row: Row) -> str:
    """The label without what has a column of its own."""
    return row.label.replace(f" · {row.model}", "").replace(f" · {row.dataset}", "")


def _value(row: Row, metric: registry.Metric) -> str:
    text = wording.metric(row.values.get(metric.name))
    return f"{text} ({wording.number(row.mean(metric.chance))})" if metric.chance in row.values else text
