"""Progress of a comparison: a live table for a person, JSON lines for a program."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TextIO

from ttl_jax.compare.cells import Cell, Setting
from ttl_jax.compare.space import Hyperparameters
from ttl_jax.system import terminal


@dataclass(frozen=True)
class ProgressLine:
    """A setting's line: cells done, of how many, running and failed; what is taken; best validation."""

    setting: Setting
    done: int
    total: int
    running: int
    failed: int
    taken: Hyperparameters | None
    best: float | None


class Board(Protocol):
    """The place where progress is shown."""

    def event(self, what: str, cell: Cell, about: dict[str, Any]) -> None:
        """A cell started or ended."""

    def show(self, lines: tuple[list[ProgressLine], float | None]) -> None:
        """Shows the state of all settings, and the seconds left."""

    def close(self) -> None:
        """Leaves the last state on the screen."""


def make_board(stream: TextIO) -> Board:
    """A live table on a terminal, JSON lines elsewhere."""
    return LiveBoard() if stream.isatty() else JsonBoard(stream)


class JsonBoard:
    """One JSON object a line and event; `show` adds nothing to those."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def event(self, what: str, cell: Cell, about: dict[str, Any]) -> None:
        """See `Board.event`."""
        what_it_is = {
            "event": what,
            **asdict(cell.setting),
            "strategy": cell.setting.title,
            "lr": cell.lr,
            "seed": cell.seed,
        }
        what_it_is |= {"options": dict(cell.options)} if cell.options else {}
        print(json.dumps(what_it_is | {"final": cell.final} | about), file=self._stream, flush=True)

    def show(self, lines: tuple[list[ProgressLine], float | None]) -> None:
        """See `Board.show`."""

    def close(self) -> None:
        """See `Board.close`."""


class LiveBoard:
    """A table that is drawn over itself."""

    def __init__(self) -> None:
        from rich.live import Live

        self._live = Live(refresh_per_second=2, vertical_overflow="ellipsis")
        self._live.start()

    def event(self, what: str, cell: Cell, about: dict[str, Any]) -> None:
        """Faults are printed above the table."""
        if "message" in about:
            setting = " ".join(name for name in cell.setting.names if name)
            self._live.console.print(
                f"{what}: {setting}, {cell.hyperparameters}, seed {cell.seed}: {about['message']}",
                markup=False,
            )

    def show(self, lines: tuple[list[ProgressLine], float | None]) -> None:
        """See `Board.show`."""
        self._live.update(draw(*lines, self._live.console.width))

    def close(self) -> None:
        """See `Board.close`."""
        self._live.stop()


def draw(lines: list[ProgressLine], seconds_left: float | None, columns: int = 110) -> Any:
    """The table, a line a setting; what is running stands above what is done and what waits."""
    done, total = sum(line.done for line in lines), sum(line.total for line in lines)
    left = "" if seconds_left is None or done == total else f", about {_clock(seconds_left)} left"
    rows = [
        {
            "data set": line.setting.dataset or "data",
            "model": line.setting.model,
            "strategy": line.setting.title
            + ("" if line.setting.fold is None else f", fold {line.setting.fold}"),
            "cells": f"{line.done}/{line.total}" + (f", {line.failed} failed" * bool(line.failed)),
            "running": line.running or "",
            "rate": "" if line.taken is None else str(line.taken).removeprefix("lr "),
            "best on validation": "" if line.best is None else f"{line.best:.3f}",
        }
        for line in sorted(lines, key=lambda line: not line.running)
    ]
    said, shown = terminal.without_constants(rows, ("data set", "model"))
    return terminal.table(shown, columns, caption=f"{said}{done} of {total} cells done{left}")


def _clock(seconds: float) -> str:
    minutes = int(seconds / 60 + 0.5)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{max(minutes, 1)} min"
