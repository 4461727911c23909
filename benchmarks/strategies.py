"""What a strategy's frozen units save: `python -m ttl_jax bench strategies [--parts=steps,probe,gradual]`.

steps    milliseconds of a step against what its operations (XLA's count) predict from the full step
probe    20 epochs of linear probing on 2,000 images at 128 px: ours, features once, beside the usual
         PyTorch loop (frozen backbone under no_grad every epoch; two epochs timed, times ten)
gradual  a gradual_last_first run with and without cached features of the frozen units

One process tree, one run; medians of at least 5 with the 25th and 75th percentile where steps are timed.
PyTorch is eager, f32, channels-last (`make parity` installs it); without it that column is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PARTS = "steps,probe,gradual"
STEPS = ("full", "layerwise(stage=1)", "layerwise(stage=2)", "layerwise(stage=3)", "layerwise(stage=4)",
         "linear_probe")  # fmt: skip


def timed_step(model: str, size: int, batch: int, strategy: str) -> tuple[Any, float]:
    """A training step as the loop compiles it: (run(), operations)."""
    import jax
    import jax.numpy as jnp

    from ttl_jax import models, strategies, weights
    from ttl_jax.config import default_config
    from ttl_jax.data import example_keys
    from ttl_jax.training.loss import make_loss
    from ttl_jax.training.optimizer import make_optimizer
    from ttl_jax.training.state import initial_state
    from ttl_jax.training.step import compile_step, make_train_step

    network, variables = models.create(model, 2), weights.initialise(model, 2)
    (bound,) = strategies.bind(strategies.parse(strategy), variables["params"], model)
    optimizer = make_optimizer(bound, default_config().optimizer)
    step = make_train_step(
        network, bound, optimizer, make_loss("multiclass", jnp.ones(2)),
        lambda images, keys: images.astype(jnp.float32) / 255,
        lambda item: example_keys(0, item["epoch"], item["example"]),
    )  # fmt: skip
    numbers = np.arange(batch, dtype=np.int32)
    data = {
        "image": np.random.default_rng(0).integers(0, 255, (batch, size, size, 3)).astype(np.uint8),
        "label": numbers % 2, "example": numbers, "epoch": 0 * numbers,
    }  # fmt: skip
    box = [initial_state(variables, optimizer, bound.trainable)]
    compiled, operations = compile_step(step, box[0], data)

    def run() -> float:
        start = time.perf_counter()
        box[0], measured = compiled(box[0], data, jnp.float32(1e-4))
        jax.block_until_ready((box[0], measured))
        return time.perf_counter() - start

    return run, operations


def steps(model: str, size: int, batch: int, repeats: int) -> list[dict[str, object]]:
    """Every strategy's step in turn, so that whatever else the machine does falls on all."""
    made = {name: timed_step(model, size, batch, name) for name in STEPS}
    seconds: dict[str, list[float]] = {name: [] for name in STEPS}
    for number in range(repeats + 2):
        for name, (run, _) in made.items():
            once = run()
            if number >= 2:
                seconds[name].append(once)
    whole, most = statistics.median(seconds["full"]), made["full"][1]
    rows: list[dict[str, object]] = []
    for name, (_, operations) in made.items():
        low, middle, high = statistics.quantiles(seconds[name], n=4)
        predicted = whole * operations / most
        rows.append(
            {
                "model": model, "px": size, "strategy": name, "GFLOP": round(operations / 1e9, 2),
                "ms": f"{1e3 * middle:.0f} ({1e3 * low:.0f}-{1e3 * high:.0f})",
                "predicted ms": round(1e3 * predicted), "measured / predicted": round(middle / predicted, 2),
            }
        )  # fmt: skip
    return rows


def datasets(count: int, size: int) -> dict[str, Any]:
    """Random images with labels: only the time matters here."""
    from ttl_jax.data import ArrayReader, Dataset

    rng = np.random.default_rng(0)

    def split(name: str, count: int) -> Dataset:
        ids = np.array([f"{name}-{number}" for number in range(count)])
        images = rng.integers(0, 255, (count, size, size, 3)).astype(np.uint8)
        labels = (np.arange(count) % 2).astype(np.int32)
        return Dataset(name, labels, ids, ids, ("a", "b"), "multiclass", ArrayReader(images))

    return {"train": split("train", count), "val": split("val", 64), "test": split("test", 64)}


def run_seconds(sets: dict[str, Any], **fields: Any) -> float:
    """Wall time of a whole run of ours, compilation included."""
    from ttl_jax.config import default_config, set_fields
    from ttl_jax.training.run import train

    config = default_config()
    set_fields(config, {"model.weights": "none", "report": False, **fields})
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        train(config, folder, sets)
        return time.perf_counter() - start


def torch_epoch(model: str, images: np.ndarray, labels: np.ndarray, batch: int) -> float:
    """Seconds of one epoch of the usual probe: no_grad through the frozen backbone, then the head."""
    sys.path.insert(0, str(ROOT / "parity"))
    import conftest  # noqa: F401  # makes torchvision importable on a CPU torch
    import reference
    import torch

    network = reference.build(model, 2).to(memory_format=torch.channels_last).eval()
    head = network.fc if hasattr(network, "fc") else network.classifier[-1]
    kept: list[Any] = []
    head.register_forward_hook(lambda module, inputs, output: kept.append(inputs[0]))
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    start = time.perf_counter()
    for place in range(0, len(images), batch):
        raw = torch.from_numpy(images[place : place + batch].transpose(0, 3, 1, 2))
        with torch.no_grad():
            network((raw.contiguous(memory_format=torch.channels_last).float() - 124) / 58)
        loss = torch.nn.functional.cross_entropy(
            head(kept.pop()), torch.from_numpy(labels[place : place + batch]).long()
        )
        kept.clear()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def probe(model: str, count: int, size: int, epochs: int) -> dict[str, object]:
    """20 epochs of linear probing."""
    sets = datasets(count, size)
    ours = run_seconds(
        sets, **{"model.name": model, "strategy": "linear_probe", "data.augment": "none",
                 "data.image_size": size, "total_epochs": float(epochs), "eval_every_epochs": 5.0},
    )  # fmt: skip
    row: dict[str, object] = {"model": model, "px": size, "images": count, "epochs": epochs,
                              "ours s": round(ours, 1)}  # fmt: skip
    try:
        images, labels = sets["train"].images.images, sets["train"].labels
        each = [torch_epoch(model, images, labels, 32) for _ in range(2)]
    except ImportError:
        return row
    row["torch s"] = round(statistics.mean(each) * epochs, 1)
    row["ratio"] = round(statistics.mean(each) * epochs / ours, 1)
    return row


def gradual(model: str, count: int, size: int, epochs: int) -> dict[str, object]:
    """One run with the cache and one without; the programs were compiled before."""
    sets = datasets(count, size)
    fields = {
        "model.name": model, "strategy": "gradual_last_first", "data.augment": "none", "data.batch_size": 16,
        "data.image_size": size, "total_epochs": float(epochs), "eval_every_epochs": float(epochs),
    }  # fmt: skip
    for cached in (True, False):  # compiles
        run_seconds(sets, **{**fields, "total_steps": 12, "cache_features": cached})
    seconds = {cached: run_seconds(sets, **fields, cache_features=cached) for cached in (True, False)}
    return {
        "model": model, "px": size, "images": count, "epochs": epochs,
        "cached s": round(seconds[True], 1), "plain s": round(seconds[False], 1),
        "ratio": round(seconds[False] / seconds[True], 2),
    }  # fmt: skip


def main(arguments: list[str]) -> None:
    from ttl_jax.compilation_cache import set_up_jax

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", default=PARTS)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--gradual_epochs", type=int, default=12)
    parser.add_argument("--gradual_images", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", default="", help="also write the rows to this JSON file")
    given = parser.parse_args(arguments)
    set_up_jax()
    rows: list[dict[str, object]] = []
    parts = given.parts.split(",")
    if "steps" in parts:
        rows += steps(given.model, given.size, given.batch, given.repeats)
    if "probe" in parts:
        rows.append(probe(given.model, given.images, given.size, given.epochs))
    if "gradual" in parts:
        rows.append(gradual(given.model, given.gradual_images, given.size, given.gradual_epochs))
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    if given.out:
        Path(given.out).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
