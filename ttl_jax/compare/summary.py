"""compare.json: what was compared, how rates were chosen, and every cell's figures."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax.analysis.strategy_plan import plan
from ttl_jax.analysis.strategy_plan_picture import draw
from ttl_jax.compare import budget, cells, inference, tune
from ttl_jax.compare.config import CompareConfig, CompareOptions
from ttl_jax.compare.setting_state import SettingState
from ttl_jax.compare.statistics import statistics
from ttl_jax.data import card
from ttl_jax.evaluation import Metric, predictions, registry
from ttl_jax.evaluation.intervals import intervals_of, mean_interval
from ttl_jax.system.whole_file import whole_file
from ttl_jax.training.records import provenance


def summarise(
    config: CompareConfig, workdir: Path, states: list[SettingState], failures: dict[str, str]
) -> dict[str, Any]:
    """The content of compare.json.

    "settings": a list of {"dataset", "model", "strategy", "lr", "lr_at_edge", "options": {"key.option":
    value}, "options_at_edge", "tuning": [{"lr", "options", "val"}],
    "cells": [{"seed", "folder", "val", "test", "seconds", ...}], "test": {metric: {"mean", "low",
    "high", "n", "over"}}, "seconds", "trainable_params", "flops" (of a training), "inference": see
    `inference.costs`, "warnings": {code: cells that have it}, "note"}; intervals are 95 %, over "patients"
    (and seeds), "seeds" or "folds".
    "statistics": see `statistics.statistics`. "pictures": see `pictures.write_pictures`.
    "protocol", "command", "versions": how it was done.
    """
    section = config.compare
    rows: dict[tuple[str, str, str], list[SettingState]] = {}
    for state in states:  # the folds of a data set make one row
        key = state.setting.dataset, state.setting.model, state.setting.strategy
        rows.setdefault(key, []).append(state)
    settings = [_setting(config, workdir, folds, failures) for folds in rows.values()]
    for setting, cost in zip(settings, inference.costs(config, workdir, settings), strict=True):
        setting["inference"] = cost
    return {
        "settings": settings,
        "statistics": statistics(config, workdir, settings),
        "pictures": write_pictures(workdir, settings, config.data.image_size) if config.report else [],
        "protocol": {
            "replication": _replication(section, states),
            "folds": max(state.setting.folds for state in states),
            "common_random_numbers": "same splits, head initialisation and order of examples per seed",
            "select": registry.metric(config.select).name,
            "budget": budget.sentence(config),
            "cores": _cores(section),
            "tuner": section.tuner,
            **_space(section),
            "tuned_on": f"validation, seed {section.seeds[0]}",
            "seeds": list(section.seeds),
        },
        "command": provenance.command(),
        "versions": provenance.versions(),
    }


def _space(section: CompareOptions) -> dict[str, Any]:
    """The space that all settings were tuned over; values of strengths stand with each setting's trials."""
    if section.tuner == "grid":
        return {"lrs": list(section.lrs)}
    return {"lr_range": list(section.lr_range), "trials": section.trials}


def _replication(section: CompareOptions, states: list[SettingState]) -> str:
    seeds = f"{len(section.seeds)} training seed" + "s" * (len(section.seeds) > 1)

    def said(folds: int) -> str:
        return f"{folds} folds of whole groups, {seeds} each" if folds else f"{seeds} on one fixed split"

    by_dataset = {state.setting.dataset: state.setting.folds for state in states}
    if len(set(by_dataset.values())) == 1:
        return said(next(iter(by_dataset.values())))
    return "; ".join(f"{name or 'data'}: {said(folds)}" for name, folds in by_dataset.items())


def _cores(section: CompareOptions) -> str:
    """The share of cores of each cell, on which the last digits depend, in words."""
    if section.engine != "local":
        return f"those that {section.engine} gave each cell"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    each = cores // section.workers if cores >= section.workers else cores
    return f"{each} of {cores} for each of {section.workers} cells at a time; another share rounds otherwise"


def _setting(
    config: CompareConfig, workdir: Path, folds: list[SettingState], failures: dict[str, str]
) -> dict[str, Any]:
    setting, runs, notes = folds[0].setting, [], []
    sign = registry.metric(config.select).sign
    for state in folds:
        where = "" if state.setting.fold is None else f"fold {state.setting.fold}, "
        for cell, outcome in state.finals.items():
            if outcome.status == "done" and outcome.result is not None:
                place = cells.folder(workdir, cell).relative_to(workdir)
                about = {"seed": cell.seed, "fold": state.setting.fold, "lr": cell.lr, "folder": str(place)}
                runs.append(about | {"options": dict(cell.options)} | outcome.result | {"seed": cell.seed})
            elif outcome.status == "diverged":
                notes.append(f"{where}seed {cell.seed}: {outcome.message}")
        todo = {str(cells.folder(workdir, cell)) for cell in state.todo}
        notes += [f"{where}{Path(place).name}: {said}" for place, said in failures.items() if place in todo]
        if state.taken is None and state.tuning and not state.todo:
            notes.append(f"{where}training diverged at every learning rate")
    rates = {state.rate for state in folds}
    known = [(state, state.taken) for state in folds if state.taken is not None]
    options = _agreed([dict(taken.options) for _, taken in known])
    codes = [code for run in runs for code in dict.fromkeys(w["code"] for w in run.get("warnings", ()))]
    warned = {code: codes.count(code) for code in dict.fromkeys(codes)}
    return {
        "dataset": setting.dataset or card.title(config.data),
        "model": setting.model,
        "strategy": setting.title,
        "written": setting.strategy,
        "folds": setting.folds,
        "length": setting.length,  # of its trainings, as a multiple of the budget's steps or epochs
        "lr": rates.pop() if len(rates) == 1 else None,  # the cells say which in which fold
        "lr_at_edge": any(tune.at_edge(state.tuning, taken) for state, taken in known),
        "options": options,  # where all folds have the same, as for the rate
        "options_at_edge": list(
            dict.fromkeys(
                name for state, taken in known for name in tune.options_at_edge(state.tuning, taken)
            )
        ),
        "tuning": [
            {
                "lr": tried.lr,
                "options": dict(tried.options),
                "val": score and sign * score.figure,
                "fold": state.setting.fold,
            }
            for state in folds
            for tried, score in sorted(state.tuning.items())
        ],
        "test": _intervals(workdir, runs),
        "seconds": _mean([run["seconds"] for run in runs]),
        "params": _mean([run["params"] for run in runs]),
        "trainable_params": _mean([run["trainable_params"] for run in runs]),
        "flops": _mean([run["flops_per_step"] * run["steps"] for run in runs]),
        "warnings": warned,
        "note": "; ".join(
            [*notes, *(f"{code.replace('_', ' ')}: {n} of {len(runs)}" for code, n in warned.items())]
        ),
        "cells": runs,
    }


def _agreed(several: list[dict[str, float]]) -> dict[str, float]:
    """The entries that are the same in all of them."""
    return (
        {name: value for name, value in several[0].items() if all(each[name] == value for each in several)}
        if several
        else {}
    )


def _intervals(workdir: Path, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Each metric's mean and interval: over patients and seeds where all were tested on the same images."""
    files = [workdir / run["folder"] / "predictions" / "test.npz" for run in runs]
    held = [predictions.load(path) for path in files if path.exists()]
    by_patients = intervals_of(held) if len(held) == len(runs) else {}
    intervals: dict[str, Any] = {metric.name: _interval(metric, runs) for metric in registry.metrics()}
    for name, (low, high) in by_patients.items():
        if intervals[name] is not None:  # None: a metric that the version of that run did not have
            intervals[name] |= {"low": low, "high": high, "over": "patients"}
    return intervals


def _interval(metric: Metric, runs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Over seeds; with folds over these, of each the mean over its seeds."""
    known: dict[Any, list[float]] = {}
    for run in runs:
        value = run["test"].get(metric.name)
        if value is not None:
            key = run["seed"] if run["fold"] is None else ("fold", run["fold"])
            known.setdefault(key, []).append(value)
    if not known:
        return None
    means = [sum(values) / len(values) for values in known.values()]
    mean = mean_interval(means, bounds=metric.bounds)
    over = "seeds" if runs[0]["fold"] is None else "folds"
    return {"mean": mean.mean, "low": mean.low, "high": mean.high, "n": mean.n, "over": over}


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def write_outputs(workdir: Path, comparison: dict[str, Any], report: bool) -> list[Path]:
    """Writes the tables, and the report over all final cells; returns what was written."""
    from ttl_jax import report as reports

    folders = [workdir / cell["folder"] for setting in comparison["settings"] for cell in setting["cells"]]
    paths = [workdir / "compare.json", *reports.write_tables(comparison, workdir)]
    if folders and report:
        title = "Comparison of strategies"
        drawn = reports.with_pictures(comparison, workdir)
        paths.append(reports.write(folders, workdir / "report.html", title, comparison=drawn))
        for name, svg in reports.figure_files(comparison).items():
            file = re.sub(r"[^A-Za-z0-9._+=]+", "-", name)
            with whole_file(workdir / "figures" / f"{file}.svg") as beside:
                beside.write_text(svg, encoding="utf-8")
        paths.append(workdir / "figures")
    return paths


def write_pictures(
    workdir: Path, settings: Sequence[dict[str, Any]], image_size: int
) -> list[dict[str, str]]:
    """Draws what is not there yet into WORKDIR/figures/strategies; says which picture is whose.

    Returns:
        {"strategy", "model", "path"} each, the path relative to the work folder.
    """
    pictures = []
    for each in {(each["strategy"], each["model"]): each for each in settings}.values():
        strategy, model = each["strategy"], each["model"]
        name = re.sub(r"[^A-Za-z0-9._+=]+", "-", f"{model}-{strategy}").strip("-")
        path = Path("figures") / "strategies" / f"{name}.svg"
        if not (workdir / path).exists():
            # two classes; without counting operations, for which every step would have to be traced
            text = each.get("written", strategy)
            draw(plan(text, model, image_size=image_size, count=False), (workdir / path,))
        pictures.append({"strategy": strategy, "model": model, "path": str(path)})
    return pictures
