"""Whole small runs on 1 to 8 virtual devices in one process, told in FOLDER/found.json.

usage: XLA_FLAGS=--xla_force_host_platform_device_count=8 python split_runs.py FOLDER
(what test_parallel.py runs and looks at)
"""

import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np

from ttl_jax.config import default_config, set_fields
from ttl_jax.data.dataset import ArrayReader, Dataset
from ttl_jax.evaluation import predictions

FIELDS = {
    "model.name": "resnet18", "model.weights": "none", "data.image_size": 16, "data.batch_size": 8,
    "data.eval_batch_size": 8, "data.augment": "flip,brightness(0.2)", "total_steps": 20,
    "optimizer.name": "sgd", "optimizer.lr": 0.01, "schedule.name": "constant", "report": False,
    "log_every_steps": 1, "eval_every_epochs": 100.0, "cache_features": False, "data.loader_threads": 0,
}  # fmt: skip


def datasets():
    rng = np.random.default_rng(0)

    def split(name, count):
        labels = (np.arange(count) % 2).astype(np.int32)
        images = rng.integers(0, 120, (count, 16, 16, 3)) + 60 * labels[:, None, None, None]
        ids = np.array([f"{name}-{number}" for number in range(count)])
        return Dataset(name, labels, ids, ids, ("a", "b"), "multiclass", ArrayReader(images.astype(np.uint8)))

    # Sizes that nothing divides.
    return {"train": split("train", 21), "val": split("val", 11), "test": split("test", 9)}


def run(folder, strategy, pause_after=math.inf, sets=None, read=True, **fields):
    """Losses of every step, and the test figures and logits, of one run; the figures where not `read`."""
    from ttl_jax.training.hooks.pause import Pause
    from ttl_jax.training.run import train

    cut = 2 if strategy == "full" else 1  # a compilation is most of a run's time
    config = default_config()
    set_fields(config, {**FIELDS, "strategy": f"truncated({cut})+{strategy}", **fields})
    metrics = train(config, folder, sets or datasets(), hooks=[Pause(pause_after)]).metrics
    if not read:
        return {"val": metrics["val"], "test": metrics["test"]}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    saved = predictions.load(folder / "predictions" / "test.npz")
    return {
        "loss": [line["loss"] for line in lines if "split" not in line],
        "val": metrics["val"], "test": metrics["test"],
        "ids": saved.ids.tolist(), "logits": saved.logits.tolist(),
    }  # fmt: skip


FIELDS_OF = {"lp_ft": {"hand_over": "best"}}
# Parts weigh by their classes: what another split of the rows must not change.
WEIGHED = {"data.class_weights": "balanced", "loss.name": "focal"}
RUNS = {
    **{f"{mode} {count} {strategy}": (mode, count, strategy, FIELDS_OF.get(strategy, {}))
       for mode, count, strategy in (
        *((mode, count, "full") for mode in ("jit", "pmap") for count in (1, 2, 4, 8)),
        ("jit", 1, "lp_ft"), ("jit", 4, "lp_ft"), ("pmap", 2, "lp_ft"),
        ("jit", 1, "auto_rgn"), ("jit", 8, "auto_rgn"),
        ("jit", 1, "l2_sp"), ("pmap", 8, "l2_sp"),
        ("jit", 1, "bss"), ("pmap", 2, "bss"),
    )},
    **{f"{mode} 3 padded": (mode, 3, "full", {}) for mode in ("jit", "pmap")},
    **{f"{mode} {count} in 2 parts": (mode, count, "full", {"parallel.accumulate": 2, **WEIGHED})
       for mode, count in (("jit", 4), ("pmap", 2))},
    "jit 4 sharded": ("jit", 4, "full", {"parallel.shard_above": 1000}),
    "jit 1 adam": ("jit", 1, "full", {"optimizer.name": "adam", "optimizer.lr": 1e-3}),
    "jit 4 adam": ("jit", 4, "full", {"optimizer.name": "adam", "optimizer.lr": 1e-3}),
    "pmap 2 own moments": ("pmap", 2, "full", {"parallel.batch_norm": "device"}),
    **{f"{mode} {count} precise": (mode, count, "full", {"model.bn_estimate": "precise(3)"})
       for mode, count in (("jit", 1), ("jit", 3), ("pmap", 2))},
    **{f"{mode} {count} corrected": (mode, count, "full", {
        "model.bn_estimate": "corrected", "model.bn_momentum": 0.99, "parallel.accumulate": 2})
       for mode, count in (("jit", 4), ("pmap", 2))},
}  # fmt: skip


def main(place):
    from ttl_jax.training.hooks.pause import Paused

    found = {}
    for name, (mode, count, strategy, fields) in RUNS.items():
        split = {"parallel.mode": mode, "parallel.devices": count}
        found[name] = run(place / name, strategy, **split, **fields)
    # A run of four devices, stopped and gone on with on one and on eight.
    stopped = place / "stopped"
    try:
        run(stopped, "full", pause_after=0.5, **{"parallel.devices": 4, "eval_every_epochs": 4.0})
    except Paused:
        pass
    for count in (1, 8):
        shutil.copytree(stopped, place / f"on{count}")
        found[f"4 then {count}"] = run(
            place / f"on{count}", "full", **{"parallel.devices": count, "eval_every_epochs": 4.0}
        )
    (place / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
