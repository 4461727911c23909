"""Whether fine-tuning falls below the probe it starts from: `python -m ttl_jax bench lp_ft WORKDIR`.

On every set of ../shared/data, in the settings of configs/comparison_study.py: the fine-tuning rate is the
best of `--rates` on validation (first seed), then `--seeds` runs. Of each the test AUROC of the weights
that are kept and, paired with it, of the probe's last ones, which fine-tuning starts from. The same command
goes on where it was stopped; finished runs are read.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax import evaluation
from ttl_jax.compare import cells, studies
from ttl_jax.config import replace_fields
from ttl_jax.engines import worker_cache
from ttl_jax.evaluation.registry import merit
from ttl_jax.system.whole_file import write_json
from ttl_jax.training.frozen.store import FeatureStore
from ttl_jax.training.programs import Session
from ttl_jax.training.records.checkpoints import Checkpoints
from ttl_jax.training.run import train

SETS = ("pneumoniamnist", "breastmnist_resplit", "brain_tumor_mri", "lc25000_colon", "ham10000")


def config_of(given: argparse.Namespace, dataset: str, lr: float, seed: int, final: bool) -> Any:
    """A run's config, as `compare` makes a cell's; alpha=1 changes nothing and keeps the probe's weights."""
    whole = studies.study(studies.STRATEGIES, {"total_steps": given.steps, "eval_every_epochs": given.every})
    setting = cells.Setting(dataset, "efficientnet_lite0", f"{given.strategy}+wise_ft(1.0)")
    config = cells.cell_config(whole, cells.Cell(setting, lr, seed, final))
    return replace_fields(config, {
        "loggers": (), "hand_over": given.hand_over, "model.bn_estimate": given.bn_estimate,
    })  # fmt: skip


def once(given: argparse.Namespace, dataset: str, lr: float, seed: int, final: bool) -> dict[str, Any]:
    """A run's validation scores and, of a final one, the test scores of the probe and of what is kept."""
    folder = given.workdir / dataset / f"lr{lr:g}-seed{seed}"
    record = folder / "ends.json"
    if record.exists():
        return json.loads(record.read_text())
    if not final and (folder / "result.json").exists():
        return json.loads((folder / "result.json").read_text())
    config = config_of(given, dataset, lr, seed, final)
    sets = worker_cache.datasets(config)
    store = FeatureStore(given.workdir / "features", 4e9)
    result = train(config, folder, sets, session=Session(programs=worker_cache.programs(), features=store))
    if not final:
        return result.metrics
    checkpoints = Checkpoints(folder)
    start = checkpoints.restore_start(result.variables)
    checkpoints.close()
    test = sets["test"]
    probe = dataclasses.replace(result, variables=start)
    images = np.array_split(np.arange(len(test)), max(1, len(test) // 128))
    chances = np.concatenate([probe.predict(test.images.read(part)) for part in images])
    logits = np.log(np.maximum(chances, 1e-30))
    found = result.metrics | {"probe": evaluation.score(test.labels, logits, test.class_names, test.task)}
    write_json(record, found)
    return found


def table(dataset: str, lr: float, runs: Sequence[dict[str, Any]]) -> str:
    """A line: AUROC of both ends in per cent, mean and 95 % interval (Student's) of the difference."""
    ends = np.array([[run[name]["auroc"] for name in ("probe", "test")] for run in runs]) * 100
    found = evaluation.mean_interval((ends[:, 1] - ends[:, 0]).tolist(), bounds=(-100.0, 100.0))
    interval = "" if found.low is None else f" [{found.low:+.1f}, {found.high:+.1f}]"  # one seed has none
    steps = ", ".join(str(run["best_step"]) for run in runs)
    below = f"{int((ends[:, 1] < ends[:, 0]).sum())} of {len(runs)}"
    return (
        f"| {dataset} | {lr:g} | {ends[:, 0].mean():.1f} | {ends[:, 1].mean():.1f} | "
        f"{(ends[:, 1] - ends[:, 0]).mean():+.1f}{interval} | {below} | {steps} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is left and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--strategy", default="lp_ft")
    parser.add_argument("--rates", nargs="+", type=float, default=(1e-3, 3e-3, 1e-2))
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2, 3, 4))
    parser.add_argument("--steps", type=int, default=75)
    parser.add_argument("--every", type=float, default=2.0, help="epochs between validations")
    parser.add_argument("--hand_over", default="last")
    parser.add_argument("--bn_estimate", default="moving")
    given = parser.parse_args(arguments)
    lines = []
    for dataset in given.sets:
        tuned = {
            lr: merit(once(given, dataset, lr, given.seeds[0], False)["val"], "auroc") for lr in given.rates
        }
        lr = max(tuned, key=lambda lr: (tuned[lr], -lr))
        lines.append(table(dataset, lr, [once(given, dataset, lr, seed, True) for seed in given.seeds]))
        print(lines[-1], flush=True)
    print("| set | rate | probe | kept | difference | below the probe | kept steps |", *lines, sep="\n")


if __name__ == "__main__":
    main()
