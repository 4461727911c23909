"""What decides a short fine-tuning: one setting changed at a time: `python -m ttl_jax bench short_run`.

    python -m ttl_jax bench short_run --out=docs/results/short_run.jsonl          # hours; resumable
    python -m ttl_jax bench short_run --out=docs/results/short_run.jsonl --table  # the table alone

The base is full fine-tuning as in configs/comparison_study.py (EfficientNet-Lite0, ImageNet, 64 px, 400
training images, 75 steps of 32, Adam at 0.003, BatchNorm keeps 0.9 a step). Each change is run on the same
splits and seeds and tested once, at the end; its figure is the mean over data sets of the paired gain in
test AUROC, with Student's interval over the data sets. What is not tuned is meant so: it says what a
setting that nobody looks at does.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

SETS = ("pneumoniamnist", "brain_tumor_mri", "ham10000", "breastmnist_resplit", "lc25000_colon")
SEEDS, BASE, PROBE = (0, 1, 2), "base", "linear_probe, trained"
CHANGES: Mapping[str, tuple[str, Mapping[str, Any]]] = {  # name -> (compared with, fields)
    BASE: ("", {}),
    "BatchNorm keeps 0.99 (EfficientNet's in TensorFlow)": (BASE, {"model.bn_momentum": 0.99}),
    "BatchNorm keeps 0.97": (BASE, {"model.bn_momentum": 0.97}),
    "BatchNorm: corrected 0.99": (BASE, {"model.bn_momentum": 0.99, "model.bn_estimate": "corrected"}),
    "BatchNorm: precise(20)": (BASE, {"model.bn_estimate": "precise(20)"}),
    "25 steps": (BASE, {"total_epochs": 2.0, "eval_every_epochs": 1.0}),
    "300 steps": (BASE, {"total_epochs": 24.0, "eval_every_epochs": 4.0}),
    "batches of 8, as many images": (BASE, {"data.batch_size": 8, "optimizer.lr": 1.5e-3}),
    "rate of 0.001": (BASE, {"optimizer.lr": 1e-3}),
    "rate of 0.01": (BASE, {"optimizer.lr": 1e-2}),
    "32 px": (BASE, {"data.image_size": 32}),
    "128 px": (BASE, {"data.image_size": 128}),
    "augmentation of the modality": (BASE, {"data.augment": "auto"}),
    "random weights": (BASE, {"model.weights": "none"}),
    "200 training images, as many steps":
        (BASE, {"data.train_limit": 200, "total_epochs": 12.0, "eval_every_epochs": 4.0}),
    PROBE: (BASE, {"strategy": "linear_probe", "optimizer.lr": 1e-2}),
    "linear_probe, solved": (PROBE, {"strategy": "linear_probe(solver='lbfgs')"}),
}  # fmt: skip
Row = dict[str, Any]


def config_of(change: str, dataset: str, seed: int, data_dir: str) -> Any:
    """The config of a run."""
    from ttl_jax.compare.studies import SETTINGS
    from ttl_jax.config import default_config, set_fields
    from ttl_jax.data.published import presets

    config = default_config()
    set_fields(config, presets.fields(dataset, data_dir))
    set_fields(config, {name: value for name, value in SETTINGS.items() if not name.startswith("compare.")})
    set_fields(config, {
        "model.name": "efficientnet_lite0", "strategy": "full", "seed": seed, "optimizer.lr": 3e-3,
        "loggers": (), "report": False, "cache_features": False,
    })  # fmt: skip
    set_fields(config, CHANGES[change][1])
    return config


@lru_cache(maxsize=4)
def sets_of(fields: tuple[Any, ...], dataset: str, data_dir: str) -> Any:
    """The splits at an image size, a number of training images and an augmentation."""
    from ttl_jax import data
    from ttl_jax.config import data_config, default_config, set_fields
    from ttl_jax.data.published import presets

    config = default_config()
    set_fields(config, presets.fields(dataset, data_dir))
    set_fields(config, dict(fields))
    return data.load(data_config(config.data))


def measured(change: str, dataset: str, seed: int, data_dir: str) -> Row:
    """Test figures of one training, whose folder goes."""
    from ttl_jax.training.run import train

    config = config_of(change, dataset, seed, data_dir)
    fields = tuple((f"data.{name}", config.data[name]) for name in ("image_size", "train_limit", "augment"))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        found = train(config, folder, sets_of(fields, dataset, data_dir)).metrics
    row = {name: found["test"][name] for name in ("auroc", "accuracy", "ece")}
    return {"change": change, "dataset": dataset, "seed": seed, "seconds": found["seconds"], **row}


def gains(rows: list[Row], change: str) -> dict[str, float]:
    """Of each data set the mean over seeds of the paired gain in AUROC, in points."""
    base = CHANGES[change][0]
    known = {(row["change"], row["dataset"], row["seed"]): row["auroc"] for row in rows}
    found: dict[str, list[float]] = {}
    for name, dataset, seed in known:
        if name == change and (base, dataset, seed) in known:
            gain = known[change, dataset, seed] - known[base, dataset, seed]
            found.setdefault(dataset, []).append(100 * gain)
    return {dataset: float(np.mean(values)) for dataset, values in found.items()}


def table(rows: list[Row]) -> str:
    """Markdown: a line for each change, by what it moves; base figures in the first."""
    from ttl_jax.evaluation import mean_interval

    sets = [name for name in SETS if any(row["dataset"] == name for row in rows)]
    lines = [
        "| change | " + " | ".join(sets) + " | mean over sets [95 %] | trainings |",
        "|---|" + "---:|" * (len(sets) + 2),
    ]
    mine = {
        name: [row["auroc"] for row in rows if (row["change"], row["dataset"]) == (BASE, name)]
        for name in sets
    }
    means = [100 * float(np.mean(values)) for values in mine.values()]
    count = sum(map(len, mine.values()))
    cells = " | ".join(f"{value:.1f}" for value in means)
    lines.append(f"| **base**: AUROC, % | {cells} | {np.mean(means):.1f} | {count} |")
    made = []
    for change, (base, _) in CHANGES.items():
        found = gains(rows, change) if base else {}
        if found:
            whole = mean_interval(list(found.values()))
            mean, low, high = whole.mean, whole.low, whole.high
            shown = " | ".join(f"{found[name]:+.1f}" if name in found else "–" for name in sets)
            over = "" if low is None else f" [{low:+.1f}, {high:+.1f}]"
            against = "" if base == BASE else f" (v {base})"
            trainings = sum(row["change"] == change for row in rows)
            made.append((mean, f"| {change}{against} | {shown} | {mean:+.1f}{over} | {trainings} |"))
    return "\n".join(lines + [line for _, line in sorted(made, key=lambda each: each[0])]) + "\n"


def main(arguments: list[str]) -> None:
    """Trains what is missing, a row each, and prints the table."""
    parser = argparse.ArgumentParser("bench short_run", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="JSON lines")
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--table", action="store_true", help="of what there is, and nothing else")
    given = parser.parse_args(arguments)
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    done = {(row["change"], row["dataset"], row["seed"]) for row in rows}
    for seed in SEEDS if not given.table else ():
        for dataset in given.sets.split(","):
            for change in CHANGES:
                if (change, dataset, seed) not in done:
                    rows.append(measured(change, dataset, seed, given.data))
                    with given.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
                    print(rows[-1], flush=True)
    print(table(rows))
