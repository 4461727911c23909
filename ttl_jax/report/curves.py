"""The figures of training, drawn from metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ttl_jax.report.read import Run, look_up
from ttl_jax.report.rows import Row, selected_by
from ttl_jax.report.svg import GRID, INK, MUTED, SERIES, drawing
from ttl_jax.report.wording import title

MAX_SERIES = len(SERIES)
_POINTS = 200  # of a training curve


def learning_curve(run: Run) -> str | None:
    """Training and validation loss, and validation figures, of one run; None if nothing is logged.

    The training loss is averaged over equal stretches of steps; dotted lines begin a phase.
    """
    train_x, train = _series(run, run.training, "loss")
    if not len(train) and not run.validation:
        return None
    with drawing(11.4, 3.3, "Learning curves: loss, and figures on the validation split") as made:
        left, right = made.figure.subplots(1, 2)
        thin_x, thin = _binned(train_x, train)
        left.plot(thin_x, thin, color=SERIES[0], linewidth=1.2, label="training")
        left.plot(*_series(run, run.validation, "loss"), "o-", color=SERIES[1], markersize=3,
                  label="validation")  # fmt: skip
        names = dict.fromkeys((selected_by(run), "auroc", "balanced_accuracy", "accuracy"))
        names.pop("loss", None)  # it is on the left
        for name, colour, mark in zip(names, SERIES[1:], "os^", strict=False):
            x, values = _series(run, run.validation, name)
            if len(values):
                right.plot(x, values, f"{mark}-", color=colour, markersize=3, label=title(name))
        best = _best_time(run)
        for axes, what in ((left, "loss"), (right, "on validation")):
            for number, (start, phase) in enumerate(_phases(run)):
                if number:
                    axes.axvline(start, color=MUTED, linewidth=0.8, linestyle=":")
                axes.annotate(f"phase {phase}", (start, 1), xycoords=("data", "axes fraction"),
                              xytext=(0, 2), textcoords="offset points", fontsize=8,
                              color=MUTED, va="bottom")  # fmt: skip
            if best is not None:
                axes.axvline(best, color=INK, linewidth=0.8, linestyle="--", label=_kept(run))
            axes.set(ylabel=what, xlabel=_clock(run))
            if axes.get_legend_handles_labels()[0]:
                axes.legend()
    return made.svg


def learning_curves(rows: Sequence[Row], metric: str) -> str | None:
    """A validation figure of every run over time, a colour a setting; None if nothing is logged.

    Only the first MAX_SERIES rows have a colour; the others are grey.
    """
    with drawing(11.4, 3.6, f"Validation {title(metric)} over time, by setting") as made:
        axes = made.figure.subplots()
        drawn = 0
        for place, row in enumerate(rows):
            colour = SERIES[place] if place < MAX_SERIES else GRID
            for number, run in enumerate(row.runs):
                x, values = _series(run, run.validation, metric)
                drawn += len(values)
                label = row.label if number == 0 and place < MAX_SERIES else None
                axes.plot(x, values, marker=".", linestyle="-" if place % MAX_SERIES < 4 else "--",
                          color=colour, markersize=4, linewidth=1.3, label=label,
                          alpha=1.0 if len(row.runs) == 1 else 0.75)  # fmt: skip
        axes.set(xlabel=_clock(rows[0].runs[0]), ylabel=f"validation {title(metric)}")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return made.svg if drawn else None


def _clock(run: Run) -> str:
    """The unit of the horizontal axis: epochs where every line has them, else steps."""
    lines = (*run.training, *run.validation)
    return "epoch" if all(look_up(line, "epoch") is not None for line in lines) else "step"


def _series(run: Run, lines: Sequence[Mapping[str, Any]], key: str) -> tuple[Any, Any]:
    """Times and values of a key, lines without it (or with null) left out."""
    clock = _clock(run)
    known = [line for line in lines if look_up(line, key) is not None]
    known = [line for line in known if look_up(line, clock) is not None]
    times = np.array([line[clock] for line in known], dtype=np.float64)
    return times, np.array([line[key] for line in known], dtype=np.float64)


def _binned(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(times) <= _POINTS:
        return times, values
    pieces = zip(np.array_split(times, _POINTS), np.array_split(values, _POINTS), strict=True)
    means = np.array([(time.mean(), value.mean()) for time, value in pieces])
    return means[:, 0], means[:, 1]


def _phases(run: Run) -> list[tuple[float, Any]]:
    """The beginning of each phase as (time, name); nothing if there is only one."""
    times, clock, begun = [], _clock(run), set()
    for line in run.training:
        phase, time = look_up(line, "phase"), look_up(line, clock)
        if phase is not None and phase not in begun and time is not None:
            begun.add(phase)
            times.append((float(time), phase))
    return times if len(times) > 1 else []


def _kept(run: Run) -> str:
    """The name of the mark at the kept weights: with their phase where there are several."""
    phase = look_up(run.result, "best_phase")
    return f"kept weights ({phase})" if phase is not None and _phases(run) else "kept weights"


def _best_time(run: Run) -> float | None:
    """When the kept weights were reached, on the axis of the curves."""
    best = look_up(run.result, "best_step")
    times = [look_up(line, _clock(run)) for line in run.validation if look_up(line, "step") == best]
    return None if best is None or not times or times[0] is None else float(times[0])
