"""Whole small runs on 1 to 8 virtual devices in one process, told as one JSON line (see test_parallel.py).

usage: python split_runs.py FOLDER [DEVICES ...]
"""

import json
import os
import sys
from pathlib import Path

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np

from ttl_jax.config import default_config, set_fields
from ttl_jax.data.dataset import ArrayReader, Dataset
from ttl_jax.evaluation import predictions

FIELDS = {
    "model.name": "resnet18", "model.weights": "none", "data.image_size": 16, "data.batch_size": 8,
    "data.eval_batch_size": 8, "data.augment": "flip,brightness(0.2)", "total_steps": 20,
    "optimizer.name": "sgd", "optimizer.lr": 0.01, "schedule.name": "constant", "report": False,
    "log_every_steps": 1, "eval_every_epochs": 4.0, "cache_features": False, "data.loader_threads": 0,
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


def run(folder, strategy, **fields):
    """Losses of every step, and the test figures and logits, of one run."""
    from ttl_jax.training.run import train

    config = default_config()
    set_fields(config, {**FIELDS, "strategy": f"truncated(2)+{strategy}", **fields})
    metrics = train(config, folder, datasets()).metrics
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    saved = predictions.load(folder / "predictions" / "test.npz")
    return {
        "loss": [line["loss"] for line in lines if "split" not in line],
        "val": metrics["val"], "test": metrics["test"],
        "ids": saved.ids.tolist(), "logits": saved.logits.tolist(),
    }  # fmt: skip


if __name__ == "__main__":
    place = Path(sys.argv[1])
    print(json.dumps(run(place / "a", "full", **{"parallel.mode": "jit", "parallel.devices": 1})["loss"][:3]))
    print(json.dumps(run(place / "b", "full", **{"parallel.mode": "jit", "parallel.devices": 4})["loss"][:3]))
    print(
        json.dumps(run(place / "c", "full", **{"parallel.mode": "pmap", "parallel.devices": 4})["loss"][:3])
    )
