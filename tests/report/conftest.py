"""Run directories as `train` leaves them, made from generated predictions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ttl_jax.evaluation import predictions, score


def generated(classes, examples, signal, seed, task="multiclass"):
    """Labels and logits of so much signal, two images a patient."""
    random = np.random.default_rng(seed)
    patients = examples // 2
    if task == "multilabel":
        labels = (random.random((patients, classes)) < 0.3).astype(float)
        signs = signal * (labels - 0.5)
    else:
        labels = random.choice(classes, size=patients, p=_shares(classes))
        signs = signal * np.eye(classes)[labels]
    noise = random.normal(size=(patients, classes))
    logits = np.repeat(signs + noise, 2, axis=0) + 0.2 * random.normal(size=(examples, classes))
    labels = np.repeat(labels, 2, axis=0)
    if task == "multilabel":
        labels[random.random(labels.shape) < 0.1] = np.nan
    return labels, logits.astype(np.float32), np.repeat(np.arange(patients), 2).astype(str)


def _shares(classes):
    shares = 0.7 ** np.arange(classes)
    return shares / shares.sum()


def make_run(
    path: Path,
    *,
    strategy: str = "full",
    model: str = "resnet50",
    dataset: str = "phantom/xray",
    seed: int = 0,
    class_names: tuple[str, ...] = ("normal", "pneumonia"),
    task: str = "multiclass",
    signal: float = 2.0,
    examples: int = 240,
    finished: bool = True,
    shifted: bool = False,
    seconds: float = 812.0,
    lr: float = 1e-3,
) -> Path:
    """Writes one run directory; unfinished, it ends in the middle of a line of metrics.jsonl."""
    path.mkdir(parents=True)
    config = {
        "seed": seed,
        "strategy": strategy,
        "total_epochs": 10.0,
        "select": "auroc",
        "model": {"name": model, "weights": "imagenet", "dtype": "float32"},
        "data": {"name": dataset, "image_size": 64, "batch_size": 32, "augment": "flip"},
        "optimizer": {"name": "adam", "lr": lr},
    }
    about = {
        "config": config,
        "versions": {"python": "3.11.9", "jax": "0.10.2", "flax": "0.12.8"},
        "git": "0123abc",
        "command": f"python -m ttl_jax train --config.strategy={strategy!r}",
    }
    (path / "config.json").write_text(json.dumps(about))
    random = np.random.default_rng(seed)
    lines, epochs = [], 10 if finished else 4
    for step in range(5, epochs * 20 + 1, 5):
        loss = 0.2 + 0.7 * np.exp(-step / 60) + 0.04 * random.normal()
        phase = 0 if step <= 60 else 1
        lines.append({"step": step, "epoch": step / 20, "phase": phase, "loss": loss, "lr": lr,
                      "img_per_s": 210.0})  # fmt: skip
        if step % 20 == 0:
            labels, logits, _ = generated(
                len(class_names), 80, signal * (1 - np.exp(-step / 50)), seed + step, task
            )
            found = score(labels, logits, class_names, task)
            lines.append({"split": "val", "step": step, "epoch": step / 20, **found})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (path / "metrics.jsonl").write_text(text if finished else text + '{"step": 85, "lo')
    if not finished:
        return path
    result = {
        "best_step": 160, "seconds": seconds, "params": 23_512_130, "trainable_params": 4_098,
        "flops_per_step": 4.87e10, "model": model, "strategy": strategy, "dataset": dataset,
        "seed": seed, "image_size": 64, "epochs": 10,
    }  # fmt: skip
    for place, split in enumerate(["val", "test"] + ["shifted"] * shifted):
        strength = signal * (0.6 if split == "shifted" else 1.0)
        labels, logits, groups = generated(len(class_names), examples, strength, 100 * place + seed, task)
        predictions.save(
            path / "predictions" / f"{split}.npz",
            ids=[f"{split}-{number}" for number in range(len(logits))],
            groups=groups,
            labels=labels,
            logits=logits,
            class_names=class_names,
            task=task,
        )
        result[split] = score(labels, logits, class_names, task)
    (path / "result.json").write_text(json.dumps(result, allow_nan=False))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """make_run in tmp_path: run("name", strategy=..., ...) -> its directory."""
    return lambda name, **options: make_run(tmp_path / name, **options)


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[..., Path]]:
    """A folder and make_run in it, for what all tests of a file read and none writes."""
    folder = tmp_path_factory.mktemp("runs")
    return folder, lambda name, **options: make_run(folder / name, **options)
