"""compare.json: what was compared, how rates were chosen, and every cell's figures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax.compare import cells, tune
from ttl_jax.compare.plan import Plan
from ttl_jax.compare.statistics import statistics
from ttl_jax.evaluation.seeds import mean_interval
from ttl_jax.training import provenance

METRICS = ("auroc", "auprc", "prevalence", "accuracy", "balanced_accuracy", "f1_macro", "ece", "brier")


def summarise(config: Any, workdir: Path, plans: list[Plan], failures: dict[str, str]) -> dict[str, Any]:
    """The content of compare.json.

    "settings": a list of {"dataset", "model", "strategy", "lr", "lr_at_edge", "tuning": [{"lr", "val"}],
    "cells": [{"seed", "folder", "val", "test", "seconds", ...}], "test": {metric: {"mean", "low",
    "high", "n"}}, "seconds", "trainable_params", "flops", "note"}; intervals are 95 %, over seeds. "statistics": see
    `statistics.statistics`. "protocol", "command", "versions": how it was done.
    """
    section = config.compare
    settings = [_setting(config, workdir, plan, failures) for plan in plans]
    return {
        "settings": settings,
        "statistics": statistics(config, workdir, settings),
        "protocol": {
            "replication": f"{len(section.seeds)} training seeds on one fixed split",
            "common_random_numbers": "same splits, head initialisation and order of examples per seed",
            "select": config.select,
            "budget": f"{config.total_steps} steps"
            if config.total_steps
            else f"{config.total_epochs} epochs",
            "tuner": section.tuner,
            "lrs": list(section.lrs),
            "tuned_on": f"validation, seed {section.seeds[0]}",
            "seeds": list(section.seeds),
        },
        "command": " ".join(sys.argv),
        "versions": provenance.versions(),
    }


def _setting(config: Any, workdir: Path, plan: Plan, failures: dict[str, str]) -> dict[str, Any]:
    runs = []
    for cell, outcome in plan.finals.items():
        if outcome.status == "done" and outcome.result is not None:
            kept = {key: value for key, value in outcome.result.items()}
            place = cells.folder(workdir, cell).relative_to(workdir)
            runs.append({"seed": cell.seed, "folder": str(place), **kept})
    tested = [run["test"] for run in runs]
    notes = [f"seed {c.seed}: {o.message}" for c, o in plan.finals.items() if o.status == "diverged"]
    notes += [
        f"{Path(place).name}: {message}"
        for place, message in failures.items()
        if any(place == str(cells.folder(workdir, cell)) for cell in plan.todo)
    ]
    if plan.rate is None and plan.tuning and not plan.todo:
        notes.append("training diverged at every learning rate")
    return {
        "dataset": plan.setting.dataset,
        "model": plan.setting.model,
        "strategy": plan.setting.strategy,
        "lr": plan.rate,
        "lr_at_edge": plan.rate is not None and tune.at_edge(plan.tuning, plan.rate),
        "tuning": [{"lr": lr, "val": value} for lr, value in sorted(plan.tuning.items())],
        "test": {name: _interval([scores[name] for scores in tested]) for name in METRICS},
        "seconds": _mean([run["seconds"] for run in runs]),
        "params": _mean([run["params"] for run in runs]),
        "trainable_params": _mean([run["trainable_params"] for run in runs]),
        "flops": _mean([run["flops_per_step"] * run["steps"] for run in runs]),
        "note": "; ".join(notes),
        "cells": runs,
    }


def _interval(values: list[float | None]) -> dict[str, Any] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    found = mean_interval(known)
    return {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n}


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def write_outputs(workdir: Path, found: dict[str, Any], report: bool) -> list[Path]:
    """Writes the tables, and the report over all final cells; returns what was written."""
    from ttl_jax import report as reports

    folders = [workdir / cell["folder"] for setting in found["settings"] for cell in setting["cells"]]
    paths = [workdir / "compare.json", *reports.write_tables(found, workdir)]
    if folders and report:
        title = "Comparison of strategies"
        paths.append(reports.write(folders, workdir / "report.html", title, comparison=found))
    return paths
