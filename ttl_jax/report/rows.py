"""One row a setting: runs that differ only in their seed become a mean and a spread."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ttl_jax.config import FREE
from ttl_jax.evaluation import registry
from ttl_jax.evaluation.intervals import intervals_of
from ttl_jax.evaluation.registry import deciding, merit
from ttl_jax.report.read import Run, flat, look_up, read_runs

COSTS = {  # key of result.json -> title
    "seconds": "time",
    "params": "parameters",
    "trainable_params": "trainable",
    "flops_per_step": "FLOP/step",
}
# Fields that tell no setting from another: runs that differ in these alone share a row.
NO_SETTING = (FREE - {"data.path", "data.root"}) | {"seed"}


@dataclass(frozen=True)
class Value:
    """A metric over the runs of a row.

    mean over `runs` of them; sd is their sample standard deviation (None with one run); low and
    high are the 95% interval over patients, with several runs over seeds too (None where runs were not
    tested on the same examples, or there is none).
    """

    mean: float
    runs: int
    sd: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Row:
    """One setting on one split. `note` says why values are missing; `chosen` marks the setting
    that validation prefers among those of its data set (never the test split)."""

    dataset: str
    model: str
    strategy: str
    label: str
    seeds: tuple[int | None, ...]
    split: str
    values: dict[str, Value]
    costs: dict[str, float]
    runs: tuple[Run, ...]
    note: str | None = None
    chosen: bool = False

    def mean(self, metric: str) -> float | None:
        return self.values[metric].mean if metric in self.values else None


def rows(run_dirs: Sequence[str | Path], split: str = "test", *, intervals: bool = True) -> tuple[Row, ...]:
    """Reads runs and makes one row of every setting, in the order given.

    Args:
        run_dirs: run directories.
        split: "test", "val" or "shifted".
        intervals: whether to compute confidence intervals from the prediction files.

    Raises:
        UserError: as `read_runs`, or a prediction file that cannot be read.
    """
    return rows_of(read_runs(run_dirs), split, intervals=intervals)


def rows_of(runs: Sequence[Run], split: str, *, intervals: bool = True) -> tuple[Row, ...]:
    """`rows`, of runs that have been read."""
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        setting, copy = _setting(run), 0
        # the same seed twice is no second sample: it gets a row of its own
        while (setting, copy) in groups and run.seed in [r.seed for r in groups[setting, copy]]:
            copy += 1
        groups.setdefault((setting, copy), []).append(run)
    made = [_row(tuple(group), split, intervals) for group in groups.values()]
    return tuple(_choose(_label(made)))


def settings_that_differ(runs: Sequence[Run]) -> tuple[str, ...]:
    """Dotted names of the config fields that are not the same in all runs, seed left out."""
    trees = [flat(run.config) for run in runs]
    keys = dict.fromkeys(key for tree in trees for key in tree if key not in NO_SETTING)
    return tuple(key for key in keys if len({_text(look_up(tree, key)) for tree in trees}) > 1)


def validation_score(run: Run) -> tuple[str, float] | None:
    """The metric that picked the checkpoint, and its value on validation at its best.

    Where `select` is undefined that is the loss: see `selection.merit`.
    """
    select, scores = selected_by(run), run.scores("val")
    lines = [
        line for line in (run.validation if scores is None else (scores,)) if {select, "loss"} <= set(line)
    ]
    if not lines:
        return None
    best = max(lines, key=lambda line: merit(line, select))
    name = deciding(best, select)
    return None if best[name] is None else (name, float(best[name]))


def selected_by(run: Run) -> str:
    """The name of the metric that the run's checkpoints were chosen by."""
    return registry.key_of(str(look_up(run.config, "select") or "auroc"))


def metrics_of(rows: Sequence[Row]) -> tuple[registry.Metric, ...]:
    """The metrics that some row has values of."""
    return registry.metrics_in({name: value.mean for name, value in row.values.items()} for row in rows)


def _setting(run: Run) -> str:
    fields = {key: value for key, value in flat(run.config).items() if key not in NO_SETTING}
    return _text([run.dataset, run.model, run.strategy, fields])


def _row(runs: tuple[Run, ...], split: str, intervals: bool) -> Row:
    runs = tuple(sorted(runs, key=lambda run: (run.seed is None, run.seed)))
    scored = [run for run in runs if run.scores(split) is not None]
    values = {}
    for metric in (each.name for each in registry.metrics_in(run.scores(split) or {} for run in scored)):
        known = [look_up(run.scores(split), metric) for run in scored]
        known = [float(value) for value in known if value is not None]
        if known:
            sd = statistics.stdev(known) if len(known) > 1 else None
            values[metric] = Value(statistics.fmean(known), len(known), sd)
    if scored and intervals:
        values |= _intervals(scored, split, values)
    costs = {}
    for cost in COSTS:
        known = [look_up(run.result, cost) for run in runs]
        known = [float(value) for value in known if value is not None]
        if known:
            costs[cost] = statistics.fmean(known)
    missing = [run for run in runs if run not in scored]
    note = None
    if missing and len(runs) == 1:
        note = missing[0].state
    elif missing:
        seeds = ", ".join(f"seed {run.seed}: {run.state}" for run in missing)
        note = f"{len(scored)} of {len(runs)} runs have a result ({seeds})"
    first = runs[0]
    return Row(
        dataset=first.dataset,
        model=first.model,
        strategy=first.strategy,
        label=first.strategy,
        seeds=tuple(run.seed for run in runs),
        split=split,
        values=values,
        costs=costs,
        runs=runs,
        note=note,
    )


def _intervals(runs: Sequence[Run], split: str, values: dict[str, Value]) -> dict[str, Value]:
    held = [each for each in (run.predictions(split) for run in runs) if each is not None]
    if len(held) < len(runs):
        return {}
    ends = intervals_of(held, list(values))
    return {metric: replace(values[metric], low=low, high=high) for metric, (low, high) in ends.items()}


def _label(shown: list[Row]) -> list[Row]:
    """Labels that tell rows apart: the strategy, and of the rest what is needed for that."""
    labels = []
    for row in shown:
        parts = [row.strategy]
        for told in ("model", "dataset"):
            if len({getattr(other, told) for other in shown}) > 1:
                parts.append(getattr(row, told))
        alike = [other.runs[0] for other in shown if _name(other) == _name(row)]
        settings = flat(row.runs[0].config)
        for key in settings_that_differ(alike)[:3]:
            parts.append(f"{key.rpartition('.')[2]}={look_up(settings, key)}")
        labels.append(" · ".join(parts))
    return [
        replace(row, label=label if labels.count(label) == 1 else f"{label} · {row.runs[0].path.name}")
        for row, label in zip(shown, labels, strict=True)
    ]


def _name(row: Row) -> tuple[str, str, str]:
    return row.dataset, row.model, row.strategy


def _choose(shown: list[Row]) -> list[Row]:
    """Marks the row with the best mean validation figure of every data set that has several."""
    chosen = set()
    for dataset in {row.dataset for row in shown}:
        ranked = []
        for place, row in enumerate(shown):
            scores = [validation_score(run) for run in row.runs]
            known = [score for score in scores if score is not None]
            if row.dataset == dataset and known:
                metric = known[0][0]
                mean = statistics.fmean(value for _, value in known)
                ranked.append((metric, registry.known_metric(metric).sign * mean, -place))
        if len(ranked) > 1 and len({metric for metric, *_ in ranked}) == 1:
            chosen.add(-max(ranked)[2])
    return [replace(row, chosen=place in chosen) for place, row in enumerate(shown)]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
