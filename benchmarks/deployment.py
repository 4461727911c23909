"""Full and truncated fine-tuning put to use: trained, shifted, exported, in 8 bits, served, over many files.

    python -m ttl_jax bench deployment WORKDIR [--data=../shared/data]

EfficientNet-Lite0 (ImageNet) at 64 px on brain_tumor_mri (split anew, look-alikes together) and ham10000
(split by lesions), full and cut after stages 5 and 4, seeds 0 to 2, with the schedule of
configs/comparison_study.py and the rate that it chose most often. Each run is evaluated on its test split and
on the same images as JPEG of quality 10, blurred, and brighter with less contrast; exported to ONNX, also in
8 bits with the ranges of training images; and of seed 0 the run is served to 8 clients and predicts 10,000
files. A row that WORKDIR/deployment.jsonl holds is not measured again; the table is that of
docs/results/deployment.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import numpy as np

from ttl_jax.deploy.export import onnx
from ttl_jax.system.compilation_cache import set_up_jax

DATASETS = ("brain_tumor_mri", "ham10000")
STRATEGIES = ("full", "truncated(stage='stage5')", "truncated(stage='stage4')")
SEEDS = (0, 1, 2)
FILES, CLIENTS, MINUTES, ROUNDS = 10_000, 8, 0.3, 51


def jpeg(images: np.ndarray) -> np.ndarray:
    """The images as they come back from JPEG of quality 10."""
    from PIL import Image

    def one(image: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="JPEG", quality=10)
        return np.asarray(Image.open(file))

    return np.stack([one(image) for image in images])


def blur(images: np.ndarray) -> np.ndarray:
    """Blurred by a Gaussian of one pixel."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(images.astype(np.float32), (0, 1, 1, 0)).round().astype(np.uint8)


def intensity(images: np.ndarray) -> np.ndarray:
    """Two thirds of the contrast, and 60 of 255 brighter: another scanner's or camera's window."""
    return (images * (2 / 3) + 60).round().astype(np.uint8)


SHIFTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "test": lambda images: images, "jpeg": jpeg, "blur": blur, "intensity": intensity,
}  # fmt: skip


def config_of(name: str, strategy: str, seed: int, data_dir: str) -> Any:
    """The config of a run."""
    from ttl_jax.compare.studies import SETTINGS
    from ttl_jax.config import default_config, set_fields
    from ttl_jax.data.published import presets

    config = default_config()
    set_fields(config, presets.fields(name, data_dir))
    set_fields(config, {key: value for key, value in SETTINGS.items() if not key.startswith("compare.")})
    set_fields(config, {
        "model.name": "efficientnet_lite0", "strategy": strategy, "seed": seed, "optimizer.lr": 3e-3,
        "loggers": (), "report": False,
    })  # fmt: skip
    return config


@lru_cache(maxsize=1)
def sets_of(name: str, data_dir: str) -> Any:
    """The splits, which are the same for every strategy and seed."""
    from ttl_jax import data
    from ttl_jax.config import data_config

    with contextlib.redirect_stdout(io.StringIO()):
        return data.load(data_config(config_of(name, "full", 0, data_dir).data))


def measured(name: str, strategy: str, seed: int, workdir: Path, given: argparse.Namespace) -> dict[str, Any]:
    """A run's scores on its test split and on the shifted ones, its files, and what 8 bits change."""
    from ttl_jax import load
    from ttl_jax.training.run import train

    sets, folder = sets_of(name, given.data), workdir / f"{name}-{slug(strategy)}-{seed}"
    with contextlib.redirect_stdout(io.StringIO()):
        train(config_of(name, strategy, seed, given.data), folder, sets)
    run = load(folder)
    test, shown = sets["test"], sets["train"].images.read(np.arange(min(len(sets["train"]), 256)))
    images = test.images.read(np.arange(len(test)))
    row: dict[str, Any] = {"params": int(run.metrics["params"]), "temperature": run.signature.temperature}
    row |= {
        shift: scores(run.predict(corrupt(images), calibrated=True), test)
        for shift, corrupt in SHIFTS.items()
    }
    row["error"] = run.export("onnx", quantized="int8", images=shown, out=folder / "export").largest_error
    for kind, file in files(folder).items():
        parts = [images[start : start + 64] for start in range(0, len(images), 64)]
        row[kind] = scores(np.concatenate(list(map(onnx.open_file(file), parts))), test) | {
            "mb": file.stat().st_size / 1e6
        }
    return row


def scores(chances: np.ndarray, split: Any) -> dict[str, float]:
    """AUROC and calibration error of calibrated probabilities."""
    from ttl_jax import evaluation

    logits = np.log(np.maximum(chances, 1e-30))
    found = evaluation.score(split.labels, logits, split.class_names, "multiclass")
    return {"n": len(split), "auroc": found["auroc"], "ece": found["ece"], "accuracy": found["accuracy"]}


def files(folder: Path) -> dict[str, Path]:
    """What an export in 8 bits leaves."""
    return {"float32": folder / "export" / "model.onnx", "int8": folder / "export" / "model.int8.onnx"}


def used(name: str, strategy: str, workdir: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Seed 0 served, over 10,000 files, and evaluated as another hospital's would be: its sets and leaks."""
    from ttl_jax import load

    folder, test = workdir / f"{name}-{slug(strategy)}-0", sets_of(name, given.data)["test"]
    images = intensity(test.images.read(np.arange(len(test))))
    with contextlib.redirect_stdout(io.StringIO()):
        found = load(folder).evaluate((images, np.array(test.class_names)[test.labels]), name="intensity")
    words = [sys.executable, "-m", "ttl_jax"]
    asked = ["bench", "serve", str(folder), f"--clients={CLIENTS}", f"--minutes={MINUTES}"]
    served = json.loads(subprocess.run([*words, *asked], check=True, capture_output=True, text=True).stdout)
    many, out = linked(name, given.data, workdir), workdir / f"{name}-{slug(strategy)}.csv"
    for old in (out, Path(f"{out}.json")):
        old.unlink(missing_ok=True)
    begun = time.monotonic()
    subprocess.run(
        [*words, "predict", str(folder), str(many), f"--out={out}"], check=True, capture_output=True
    )
    took = time.monotonic() - begun
    with out.open(encoding="utf-8") as file:
        rows = sum(1 for _ in file) - 1
    return {
        "conformal": {"intensity": found["external"]["conformal"]},
        "serve": served,
        "predict": {"rows": rows, "seconds": took, "images_per_second": rows / took},
    }


def linked(name: str, data_dir: str, workdir: Path) -> Path:
    """A folder of 10,000 files of a data set: where it has fewer, the same ones under further names."""
    folder = workdir / f"{name}-files"
    there = sorted(Path(data_dir, name).resolve().rglob("*.jpg"))
    folder.mkdir(exist_ok=True)
    for number in range(len(list(folder.iterdir())), FILES):
        (folder / f"{number:05d}.jpg").symlink_to(there[number % len(there)])
    return folder


def timed(name: str, workdir: Path) -> dict[str, Any]:
    """Milliseconds of one image, all files of a data set in turn: medians, and the least.

    A file's first call of a turn brings its weights back into the caches and does not count.
    """
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    calls = {
        (strategy, kind): onnx.open_file(file)
        for strategy in STRATEGIES
        for kind, file in files(workdir / f"{name}-{slug(strategy)}-0").items()
    }
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(ROUNDS):
        for key, call in calls.items():
            call(image)
            start = time.perf_counter()
            call(image)
            taken[key].append(1e3 * (time.perf_counter() - start))
    return {f"{strategy} {kind}": [median(each), min(each)] for (strategy, kind), each in taken.items()}


def slug(strategy: str) -> str:
    """A strategy as a part of a file's name."""
    return re.sub(r"\W+", "-", strategy).strip("-")


def table(rows: list[dict[str, Any]]) -> str:
    """What docs/results/deployment.md shows of the rows."""
    names = ["test", "JPEG", "blur", "intensity", "test, int8"]
    columns = [
        "data set", "strategy", "seeds", "parameters", "MB", "MB, int8", "ms", "ms, int8",
        *(f"AUROC: {each}" for each in names), "ECE: test", *names[1:4],
        "sets of 90 % cover: intensity", "served/s", "p99, ms", "predicted/s",
    ]  # fmt: skip
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for name in dict.fromkeys(row["dataset"] for row in rows):
        mine = [row for row in rows if row["dataset"] == name]
        (times,) = (row for row in mine if row["part"] == "timed")
        for strategy in STRATEGIES:
            runs = [row for row in mine if row["part"] == "measured" and row["strategy"] == strategy]
            (one,) = (row for row in mine if row["part"] == "used" and row["strategy"] == strategy)
            scores = [spread([run[shift]["auroc"] for run in runs]) for shift in (*SHIFTS, "int8")]
            errors = [f"{fmean(run[shift]['ece'] for run in runs):.3f}" for shift in SHIFTS]
            cells = [
                name, strategy, str(len(runs)), f"{runs[0]['params'] / 1e6:.2f} M",
                *(f"{runs[0][kind]['mb']:.1f}" for kind in ("float32", "int8")),
                *(f"{times[f'{strategy} {kind}'][0]:.2f}" for kind in ("float32", "int8")),
                *scores, *errors, f"{one['conformal']['intensity']['estimate']:.2f}",
                f"{one['serve']['images_per_second']:.0f}", f"{one['serve']['p99_ms']:.0f}",
                f"{one['predict']['images_per_second']:.0f}",
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds."""
    return f"{fmean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def main(arguments: list[str]) -> None:
    """Measures what is missing, prints the table."""
    parser = argparse.ArgumentParser(prog="bench deployment", description=__doc__)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--data", default="../shared/data", help="folder that holds the two data sets")
    given = parser.parse_args(arguments)
    set_up_jax()
    given.workdir.mkdir(parents=True, exist_ok=True)
    file = given.workdir / "deployment.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def keep(key: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> None:
        if any(key.items() <= row.items() for row in rows):
            return
        start = time.monotonic()
        rows.append(key | measure())
        with file.open("a") as target:
            target.write(json.dumps(rows[-1]) + "\n")
        print(f"{time.monotonic() - start:6.1f} s  {rows[-1]}", flush=True)

    for seed in SEEDS:  # all of the first seed first
        for name in DATASETS:
            for strategy in STRATEGIES:
                key = {"dataset": name, "strategy": strategy}
                keep(
                    {"part": "measured", **key, "seed": seed},
                    lambda: measured(name, strategy, seed, given.workdir, given),  # noqa: B023
                )
                keep({"part": "used", **key}, lambda: used(name, strategy, given.workdir, given))  # noqa: B023
            keep({"part": "timed", "dataset": name}, lambda: timed(name, given.workdir))  # noqa: B023
    print("\n" + table(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
