"""WORKDIR/metrics.csv: a row an event, a column a figure, for spreadsheets and pandas."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttl_jax.system.csv_cell import csv_cell
from ttl_jax.system.whole_file import whole_file
from ttl_jax.training.records.events import read_events

FIRST = ["step", "epoch", "split", "phase", "loss"]  # columns that stand in front


class CsvFile:
    """Follows metrics.jsonl; a column that comes later is filled with nothing before."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / "metrics.csv"
        self._columns: list[str] = []
        self._rows: list[dict[str, Any]] = []

    def begin(self, step: int) -> None:
        """Writes what metrics.jsonl holds, which ends at this step."""
        self._rows, self._columns = [], list(FIRST)
        for _, values in read_events(self._folder / "metrics.jsonl"):
            self._take(values)
        self._write_all()

    def event(self, values: Mapping[str, Any]) -> None:
        """Appends a row; the whole file is written anew where a column is new."""
        if not self._columns:  # a run that only had its end left to do
            self.begin(values["step"])
        known = len(self._columns)
        row = self._take(values)
        if len(self._columns) > known:
            self._write_all()
            return
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)

    def close(self) -> None:
        """Every row is on disk already."""

    def _take(self, values: Mapping[str, Any]) -> dict[str, Any]:
        row = {
            name: "" if value is None else csv_cell(value)
            for name, value in values.items()
            if not isinstance(value, Mapping | list | tuple)
        }
        row = {**row, "split": row["split"] if "split" in row else "train"}
        self._columns += [name for name in row if name not in self._columns]
        self._rows.append(row)
        return row

    def _write_all(self) -> None:
        with whole_file(self._path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, self._columns, lineterminator="\n")
            table.writeheader()
            table.writerows(self._rows)


def make(folder: Path, config: Mapping[str, Any]) -> CsvFile:
    """The logger of a run."""
    return CsvFile(folder)
