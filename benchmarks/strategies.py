"""What a strategy's frozen units save: `python -m ttl_jax bench strategies [--parts=steps,...]`.

steps    milliseconds of a step against what its operations (XLA's count) predict from the full step
probe    20 epochs of linear probing on 2,000 images at 128 px: ours, features once, beside the usual
         PyTorch loop (frozen backbone under no_grad every epoch; one epoch timed, times twenty)
gradual  a gradual_last_first run with and without cached features of the frozen units
search   a search of the unit to cut at (or to freeze up to) by successive halving, beside one training of
         every unit that knows nothing of the others (no shared programs, no cached features, no early
         end); on scikit-learn's digits: where nothing can be learned a search has nothing to go by

One process tree, one run; what is compared runs in turn, after a first time that does not count (it
compiles); medians with the 25th and 75th percentile. PyTorch is eager, f32, channels-last (`make parity`
installs it), in a process with the environment that its users have, or with tcmalloc (--tcmalloc);
without it that column is left out.
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
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import ttl_jax

sys.path.insert(0, str(Path(__file__).parent))
import cpu  # noqa: E402
from cpu import spread  # noqa: E402

ROOT = Path(ttl_jax.__file__).resolve().parents[1]  # where children find the package
LONG = 10.0  # seconds
PARTS = ("steps", "probe", "gradual", "search")
STEPS = ("full", "layerwise(stage=1)", "layerwise(stage=2)", "layerwise(stage=3)", "layerwise(stage=4)",
         "linear_probe")  # fmt: skip


def timed_step(model: str, size: int, batch: int, strategy: str) -> tuple[Any, float]:
    """A training step as the loop compiles it: (run(), operations)."""
    import jax
    import jax.numpy as jnp

    from ttl_jax import models, strategies, weights
    from ttl_jax.config import default_config
    from ttl_jax.data import example_keys
    from ttl_jax.training.compile_ahead import compile_step
    from ttl_jax.training.devices import ONE
    from ttl_jax.training.loss import make_loss
    from ttl_jax.training.optimizer import make_optimizer
    from ttl_jax.training.state import initial_state
    from ttl_jax.training.step import TrainStep

    network, variables = models.create(model, 2), weights.initialise(model, 2)
    (bound,) = strategies.bind(strategies.parse(strategy), variables["params"], model)
    optimizer = make_optimizer(bound, default_config().optimizer)
    step = TrainStep(
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
    compiled, operations = compile_step(step, box[0], ONE.place_batch(data))

    def run() -> float:
        start = time.perf_counter()
        box[0], measured = compiled(box[0], ONE.place_batch(data), np.float32(1e-4))
        jax.block_until_ready((box[0], measured))
        return time.perf_counter() - start

    return run, operations


def in_turn(ways: Mapping[str, Callable[[], float]], repeats: int, before: int = 0) -> dict[str, list[float]]:
    """Seconds of each way; in turn, so that whatever else the machine does falls on all.

    Args:
        ways: name -> what returns its seconds.
        repeats: that count.
        before: rounds that do not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(before + repeats):
        for name, run in ways.items():
            once = run()
            if number >= before:
                seconds[name].append(once)
                if once > LONG:  # so that an end by force loses nothing
                    said = f"{name} {len(seconds[name])} of {repeats}: {once:.1f} s"
                    print(said, file=sys.stderr, flush=True)
    return seconds


def steps(model: str, size: int, batch: int, repeats: int) -> list[dict[str, object]]:
    """Every strategy's step in turn, so that whatever else the machine does falls on all."""
    made = {name: timed_step(model, size, batch, name) for name in STEPS}
    seconds = in_turn({name: run for name, (run, _) in made.items()}, repeats, before=2)
    whole, most = statistics.median(seconds["full"]), made["full"][1]
    rows: list[dict[str, object]] = []
    for name, (_, operations) in made.items():
        middle = statistics.median(seconds[name])
        predicted = whole * operations / most
        rows.append(
            {
                "model": model, "px": size, "strategy": name, "GFLOP": round(operations / 1e9, 2),
                "ms": spread(seconds[name], 1e3),
                "predicted ms": round(1e3 * predicted), "measured / predicted": round(middle / predicted, 2),
            }
        )  # fmt: skip
    return rows


def datasets(count: int, size: int, held_out: int = 64) -> dict[str, Any]:
    """Random images with labels: only the time matters here."""
    from ttl_jax.data import ArrayReader, Dataset

    rng = np.random.default_rng(0)

    def split(name: str, count: int) -> Dataset:
        ids = np.array([f"{name}-{number}" for number in range(count)])
        images = rng.integers(0, 255, (count, size, size, 3)).astype(np.uint8)
        labels = (np.arange(count) % 2).astype(np.int32)
        return Dataset(name, labels, ids, ids, ("a", "b"), "multiclass", ArrayReader(images))

    return {"train": split("train", count), "val": split("val", held_out), "test": split("test", held_out)}


def run_seconds(sets: dict[str, Any], config: Any = None, **fields: Any) -> tuple[float, Any]:
    """Wall time of a whole run of ours, what is left to compile included, and its result."""
    from ttl_jax.config import default_config, set_fields
    from ttl_jax.training.run import train

    config = default_config() if config is None else config
    set_fields(config, {"model.weights": "none", "report": False, **fields})
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        result = train(config, folder, sets)
        return time.perf_counter() - start, result


def torch_epoch(model: str, count: int, size: int, batch: int) -> Callable[[], None]:
    """What trains one epoch of the usual probe: no_grad through the frozen backbone, then the head."""
    sys.path.insert(0, str(ROOT / "parity"))
    import conftest  # noqa: F401  # makes torchvision importable on a CPU torch
    import reference
    import torch

    training = datasets(count, size)["train"]
    images, labels = training.images.images, training.labels
    network = reference.build(model, 2).to(memory_format=torch.channels_last).eval()
    head = network.fc if hasattr(network, "fc") else network.classifier[-1]
    kept: list[Any] = []
    head.register_forward_hook(lambda module, inputs, output: kept.append(inputs[0]))
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)

    def epoch() -> None:
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

    return epoch


def probe(model: str, count: int, size: int, epochs: int, repeats: int, tcmalloc: bool) -> dict[str, object]:
    """20 epochs of linear probing; ours whole, an epoch of PyTorch's."""
    sets, few = datasets(count, size), datasets(64, size)
    fields = {
        "model.name": model, "strategy": "linear_probe", "data.augment": "none", "data.image_size": size,
        "total_epochs": float(epochs), "eval_every_epochs": 5.0,
    }  # fmt: skip
    run_seconds(few, **{**fields, "total_steps": 2, "data.eval_batch_size": 64})  # compiles the step
    ways = {"ours": lambda: run_seconds(sets, **fields, **{"data.eval_batch_size": 64})[0]}
    child: cpu.Child | None = None
    if find_spec("torch") and (ROOT / "parity").is_dir():
        words = [model, str(count), str(size), "32"]
        child = cpu.Child(__file__, words, cpu.peer_environment("torch+tcmalloc" if tcmalloc else "torch"))
        ways["torch"] = child.step
    seconds = in_turn(ways, repeats)
    row: dict[str, object] = {"part": "probe", "model": model, "px": size, "images": count,
                              "epochs": epochs, "ours s": spread(seconds["ours"], digits=1)}  # fmt: skip
    if child is not None:
        child.close()
        whole = [epochs * once for once in seconds["torch"]]
        row["torch s"] = spread(whole, digits=1)
        row["torch / ours"] = round(statistics.median(whole) / statistics.median(seconds["ours"]), 1)
    return row


def gradual(model: str, count: int, size: int, epochs: int, repeats: int) -> dict[str, object]:
    """Whole runs with the cache and without, in turn; the programs were compiled before."""
    sets = datasets(count, size)
    fields = {
        "model.name": model, "strategy": "gradual_last_first", "data.augment": "none", "data.batch_size": 16,
        "data.image_size": size, "total_epochs": float(epochs), "eval_every_epochs": float(epochs),
    }  # fmt: skip
    for cached in (True, False):  # compiles
        run_seconds(sets, **{**fields, "total_steps": 12, "cache_features": cached})
    seconds = in_turn(
        {
            name: lambda cached=cached: run_seconds(sets, **fields, cache_features=cached)[0]  # type: ignore[misc]
            for name, cached in (("cached", True), ("plain", False))
        },
        repeats,
    )
    ratio = statistics.median(seconds["plain"]) / statistics.median(seconds["cached"])
    return {
        "part": "gradual", "model": model, "px": size, "images": count, "epochs": epochs,
        "cached s": spread(seconds["cached"], digits=1), "plain s": spread(seconds["plain"], digits=1),
        "plain / cached": round(ratio, 2),
    }  # fmt: skip


def digits(count: int, size: int, held_out: int) -> dict[str, Any]:
    """Scikit-learn's handwritten digits, 8 x 8, enlarged and in noise: something to learn."""
    from sklearn.datasets import load_digits

    from ttl_jax.data import ArrayReader, Dataset

    known, rng = load_digits(), np.random.default_rng(0)
    order, start, sets = rng.permutation(len(known.target)), 0, {}
    for name, number in (("train", count), ("val", held_out), ("test", held_out)):
        chosen, start = order[start : start + number], start + number
        small = np.repeat(np.repeat(known.images[chosen], size // 8, axis=1), size // 8, axis=2)
        noisy = 128 + 8 * (small - 8)[..., None] + rng.normal(0, 60, (len(chosen), size, size, 3))
        ids = np.array([f"{name}-{number}" for number in chosen])
        labels, names = known.target[chosen].astype(np.int32), tuple(map(str, known.target_names))
        images = ArrayReader(noisy.clip(0, 255).astype(np.uint8))
        sets[name] = Dataset(name, labels, ids, ids, names, "multiclass", images)
    return sets


def search(kind: str, model: str, count: int, size: int, epochs: int, repeats: int) -> dict[str, object]:
    """Whole searches and one whole training for each unit, in turn."""
    from ttl_jax.config import set_fields
    from ttl_jax.search.config import search_config
    from ttl_jax.search.protocol import Request
    from ttl_jax.search.search import search as run
    from ttl_jax.search.subject import read

    sets = digits(count, size, count // 2)
    config = search_config()
    set_fields(
        config,
        {
            "model.name": model, "model.weights": "none", "data.augment": "none", "data.batch_size": 16,
            "data.image_size": size, "total_epochs": float(epochs), "search.kind": kind,
            "search.method": "halving",
        },
    )  # fmt: skip
    setting, found, scores = read(config), {}, {}
    seen = {name: sets[name] for name in ("train", "val")}  # as the search's trainings do

    def searched() -> float:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            start = time.perf_counter()
            found.update(run(config, folder, sets))
            return time.perf_counter() - start

    def alone() -> float:
        total = 0.0
        for unit in setting.points:
            seconds, result = run_seconds(seen, setting.trial(Request(unit)), cache_features=False)
            total, scores[unit] = total + seconds, result.metrics["val"][config.select]
        return total

    setting.run.total_epochs = config.total_epochs = 1.0  # compiles
    searched(), alone()
    setting.run.total_epochs = config.total_epochs = float(epochs)
    seconds = in_turn({"search": searched, "alone": alone}, repeats)
    ratio = statistics.median(seconds["alone"]) / statistics.median(seconds["search"])
    return {
        "part": "search", "kind": kind, "model": model, "px": size, "images": count, "epochs": epochs,
        "units": len(setting.points), "trainings' worth": round(found["cost"], 2),
        "found": f"unit {found['best']} ({scores[found['best']]:.3f})",
        "best": f"unit {max(scores, key=lambda unit: scores[unit])} ({max(scores.values()):.3f})",
        "search s": spread(seconds["search"], digits=1), "alone s": spread(seconds["alone"], digits=1),
        "alone / search": round(ratio, 2),
    }  # fmt: skip


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--worker"]:
        model, *numbers = arguments[1:]
        cpu.answers(torch_epoch(model, *map(int, numbers)))
        return
    from ttl_jax.system.compilation_cache import set_up_jax

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--gradual_model", default="resnet18")
    parser.add_argument("--gradual_size", type=int, default=64)
    parser.add_argument("--gradual_images", type=int, default=320)
    parser.add_argument("--gradual_epochs", type=int, default=60)
    parser.add_argument("--search_kinds", default="ttl", help="ttl, lwft, tf")
    parser.add_argument("--search_model", default="resnet34")
    parser.add_argument("--search_size", type=int, default=64)
    parser.add_argument("--search_images", type=int, default=480)
    parser.add_argument("--search_epochs", type=int, default=18)
    parser.add_argument("--repeats", type=int, default=7, help="of steps")
    parser.add_argument("--runs", type=int, default=3, help="repeats of whole runs: probe, gradual, search")
    parser.add_argument("--tcmalloc", action="store_true", help="probe: preload tcmalloc for PyTorch")
    parser.add_argument("--out", default="", help="also write the rows to this JSON file")
    given = parser.parse_args(arguments)
    set_up_jax()
    rows: list[dict[str, object]] = []
    for part in given.parts.split(","):
        if part not in PARTS:
            parser.error(f"--parts takes {', '.join(PARTS)}, not {part!r}")
        if part == "steps":
            new = steps(given.model, given.size, given.batch, given.repeats)
        elif part == "probe":
            sizes = given.images, given.size, given.epochs
            new = [probe(given.model, *sizes, given.runs, given.tcmalloc)]
        elif part == "gradual":
            sizes = given.gradual_images, given.gradual_size, given.gradual_epochs
            new = [gradual(given.gradual_model, *sizes, given.runs)]
        else:
            sizes = given.search_images, given.search_size, given.search_epochs
            kinds = given.search_kinds.split(",")
            new = [search(kind, given.search_model, *sizes, given.runs) for kind in kinds]
        for row in new:
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        rows += new
    if given.out:
        Path(given.out).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
