"""A run's log: metrics.jsonl, and progress for a person or for a program."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ttl_jax.evaluation import registry
from ttl_jax.system.whole_file import whole_file
from ttl_jax.training.records.events import read_events
from ttl_jax.training.records.loggers import Logger


class EventLog:
    """Appends events to metrics.jsonl, sends them to the loggers, and shows them.

    On a terminal: one live line with progress, rate and remaining time. Elsewhere: one JSON line an
    event on standard output.
    """

    def __init__(self, path: Path, *, silent: bool = False, loggers: Sequence[Logger] = ()) -> None:
        """Touches nothing until `begin`.

        Args:
            path: the file metrics.jsonl.
            silent: True in all processes but the first: nothing is written or shown.
            loggers: opened ones, that take the events too.
        """
        self._path, self._silent, self.loggers = path, silent, loggers
        self._terminal = sys.stdout.isatty()
        self._shown = ""
        self._total, self._first, self._started = 0, 0, time.perf_counter()

    def begin(self, total_steps: int, resume_step: int = 0) -> None:
        """Drops the lines after the step that the run goes on from: they are about to be written again."""
        self._total, self._first, self._started = total_steps, resume_step, time.perf_counter()
        if self._silent:
            return
        if self._path.exists():
            kept = [line for line, event in read_events(self._path) if event["step"] <= resume_step]
            with whole_file(self._path) as beside:  # a kill in between must not lose them
                beside.write_text("".join(line + "\n" for line in kept))
        for logger in self.loggers:
            logger.begin(resume_step)

    def event(self, **values: Any) -> None:
        """Writes one event and shows it."""
        if self._silent:
            return
        line = json.dumps(values)
        with self._path.open("a") as file:
            file.write(line + "\n")
        for logger in self.loggers:
            logger.event(values)
        if not self._terminal:
            print(line, flush=True)
            return
        if "split" in values:
            self._clear()
            figures = "  ".join(
                f"{name} {values[name]:.3f}"
                for name in ("loss", *(each.name for each in registry.metrics() if each.in_table))
                if name in values and values[name] is not None
            )
            print(f"  epoch {values['epoch']:.1f}  {values['split']}  {figures}")
            return
        done, elapsed = values["step"], time.perf_counter() - self._started
        remaining = elapsed / max(done - self._first, 1) * (self._total - done)
        filled = int(24 * done / self._total)
        self._shown = (
            f"  [{'#' * filled}{'.' * (24 - filled)}] step {done}/{self._total}  {values['phase']}  "
            f"loss {values['loss']:.3f}  {values['img_per_s']:.0f} img/s  ETA {_clock(remaining)}"
        )
        print(f"\r\x1b[K{self._shown}", end="", flush=True)

    @property
    def folder(self) -> Path:
        """The run's work folder."""
        return self._path.parent

    def nonfinite(self, step: int, values: dict[str, float], examples: list[str]) -> None:
        """Keeps which examples stood in the newest batch whose loss or gradient was no number."""
        if self._silent:
            return
        record = {"step": step, **{name: str(value) for name, value in values.items()}, "examples": examples}
        (self.folder / "nonfinite.json").write_text(json.dumps(record) + "\n")

    def close(self) -> None:
        """Ends the live line."""
        self._clear()

    def _clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", flush=True)
            self._shown = ""


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
