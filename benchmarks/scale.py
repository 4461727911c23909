"""How cost grows with images, classes, seeds and cells, and what big sets would take elsewhere.

    python -m ttl_jax bench scale [--parts=size,classes,cells,projection] [--largest=1000000] [--repeats=5]
        [--measured=FILE: of `bench gpu --out=FILE`; the projection then has eight such cards too]

size: one epoch over a memory-mapped file of 28 px images, read, shuffled, batched and put on the device,
in a process of its own for each size; "own memory" is anonymous memory at the end, beyond that of the
process before it opened the data (pages of the mapped file are the system's cache, and are given back).
classes: a full step of ResNet-18 at 64 px, and scoring 5,000 predictions. cells: seconds for each cell of
a comparison, by the number of seeds. projection: see `projection`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

import ttl_jax
from ttl_jax.errors import UserError

ROOT = Path(ttl_jax.__file__).resolve().parents[1]  # where children find the package
PARTS = ("size", "classes", "cells", "projection")


@dataclass(frozen=True)
class Machine:
    """Where a projection is for.

    Attributes:
        chips: of them.
        images: of ResNet-50's training at 224 px, by one chip a second, in bf16.
        source: of that figure.
        efficiency: of all chips together, against so many alone.
    """

    name: str
    chips: int
    images: float
    source: str
    efficiency: float


MACHINES = (
    Machine("v5e-8", 8, 2300, "MLPerf's 3,450 a v4 chip, by memory bandwidth (819/1228 GB/s)", 0.95),
    Machine("v5e-256", 256, 2300, "as v5e-8", 0.85),
    Machine("H100x8", 8, 4500, "this project's target; MLPerf v3.1 (hand-tuned MXNet): 7,084", 0.95),
)
# Images of the training split and epochs.
SETS = (("CheXpert", 223_414, 30), ("ISIC 2020", 33_126, 30), ("1.28 M images", 1_281_167, 90))


def main(arguments: list[str]) -> None:
    """Measures the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--largest", type=int, default=1_000_000, help="images of the largest set")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measured", default="", help="JSON file of `bench gpu --out`, for the projection")
    given = parser.parse_args(arguments)
    parts = given.parts.split(",")
    for part in parts:
        if part not in PARTS:
            parser.error(f"--parts takes {', '.join(PARTS)}, not {part!r}")
    if given.measured and "projection" not in parts:
        parser.error("--measured is for the part projection, which --parts leaves out")
    more = measured(given.measured) if given.measured else ()  # before anything is measured for an hour
    for part in parts:
        print(f"\n{part}", flush=True)
        if part == "size":
            size(given.largest, given.repeats)
        elif part == "classes":
            classes(given.repeats)
        elif part == "cells":
            cells()
        else:
            projection(more)


def spread(values: list[float], scale: float = 1.0) -> str:
    """Median, least and greatest."""
    middle, low, high = (scale * value for value in (statistics.median(values), min(values), max(values)))
    return f"{middle:.3g} ({low:.3g}-{high:.3g})"


def size(largest: int, repeats: int) -> None:
    """Seconds an epoch and memory, from 1,000 images up in powers of ten."""
    print(f"{'images':>9}  {'s an epoch':22}{'us an image':>12}{'own memory MB':>15}", flush=True)
    count = 1000
    with tempfile.TemporaryDirectory() as folder:
        while count <= largest:
            path = Path(folder) / f"{count}.npy"
            held = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, 28, 28, 3))
            for start in range(0, count, 10_000):
                held[start : start + 10_000] = (start // 10_000) % 256
            held.flush()
            del held
            code = f"import scale; scale.epochs({str(path)!r}, {repeats})"
            environment = {"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}
            ran = subprocess.run(
                [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
            )
            found = json.loads(ran.stdout.splitlines()[-1])
            path.unlink()
            each = 1e6 * statistics.median(found["seconds"]) / count
            print(
                f"{count:9,}  {spread(found['seconds']):22}{each:12.2f}{found['megabytes']:15.0f}", flush=True
            )
            count *= 10


def epochs(path: str, repeats: int) -> None:
    """Prints the seconds of epochs over a file of images and the memory they took (a child process)."""
    import jax
    import jax.numpy as jnp

    from ttl_jax.data import ArrayReader, Dataset, train_batches
    from ttl_jax.system.compilation_cache import set_up_jax
    from ttl_jax.system.placing import settle_memory
    from ttl_jax.training.devices import ONE

    set_up_jax()
    total = jax.jit(lambda images, sum_: sum_ + images.astype(jnp.float32).mean())
    total(jnp.zeros((128, 28, 28, 3), jnp.uint8), jnp.float32(0)).block_until_ready()
    before = anonymous_megabytes()
    images = np.load(path, mmap_mode="r")
    count = len(images)
    names = np.arange(count).astype(str)
    labels = (np.arange(count) % 2).astype(np.int32)
    data = Dataset("train", labels, names, names, ("a", "b"), "multiclass", ArrayReader(images))
    del names  # four bytes a character; the data set has one
    settle_memory()  # as a run does once its step is compiled
    steps, seconds, sum_ = count // 128, [], jnp.float32(0)
    batches = train_batches(data, batch_size=128, seed=0, start=0, stop=repeats * steps, threads=2)
    for _ in range(repeats):  # of one stream, as the loop reads it
        began = time.perf_counter()
        for batch in islice(batches, steps):
            sum_ = total(ONE.place_batch(batch)["image"], sum_)
        sum_.block_until_ready()
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": seconds, "megabytes": anonymous_megabytes() - before}))


def anonymous_megabytes() -> float:
    """This process's own memory (RssAnon): mapped files are not in it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1000
    raise RuntimeError("/proc/self/status has no RssAnon")


def classes(repeats: int) -> None:
    """Milliseconds of a step and of scoring, by the number of classes."""
    sys.path.insert(0, str(Path(__file__).parent))
    import cpu

    from ttl_jax.evaluation import score

    print(f"{'classes':>9}  {'ms a step, batch 16':24}{'s for 5,000 scores':24}", flush=True)
    for number in (2, 10, 100, 1000):
        step = cpu.jax_step("resnet18", 64, 16, "train", classes=number)
        step()
        steps = [timed(step) for _ in range(repeats)]
        rng = np.random.default_rng(0)
        labels = (np.arange(5000) % number).astype(np.int32)
        logits = rng.normal(size=(5000, number)).astype(np.float32)
        names = tuple(map(str, range(number)))
        scores = [timed(lambda: score(labels, logits, names, "multiclass")) for _ in range(repeats)]  # noqa: B023
        print(f"{number:9,}  {spread(steps, 1000):24}{spread(scores):24}", flush=True)


def timed(work: Callable[[], object]) -> float:
    """Wall seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def cells() -> None:
    """Seconds for each cell of a comparison of two probes on a phantom."""
    from ttl_jax.compare import compare, default_config
    from ttl_jax.config import set_fields

    print(f"{'cells':>9}  {'s':>8}{'s a cell':>10}", flush=True)
    for seeds in (2, 4, 8):
        config = default_config()
        set_fields(
            config,
            {
                "compare.strategies": ("linear_probe", "truncated(2)"), "compare.models": ("resnet18",),
                "compare.datasets": ("phantom/mri",), "compare.seeds": tuple(range(seeds)),
                "compare.lrs": (1e-3,), "compare.keep": "none", "model.weights": "none",
                "data.image_size": 32, "data.phantom_patients": 40, "data.augment": "none",
                "total_epochs": 1.0,
            },
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            seconds = timed(lambda: compare(config, folder))  # noqa: B023
        print(f"{2 * seeds:9}  {seconds:8.1f}{seconds / (2 * seeds):10.2f}", flush=True)


def duration(hours: float) -> str:
    """Hours, or minutes below one."""
    return f"{hours:10.1f} h" if hours >= 1 else f"{60 * hours:8.1f} min"


def measured(path: str) -> tuple[Machine, ...]:
    """Eight of the card on which `bench gpu` measured ResNet-50 at 224 px.

    Raises:
        UserError: the file is none of that benchmark's, or has no such row.
    """
    try:
        rows = json.loads(Path(path).read_text())
        found = [
            (float(row["jax img/s"].split()[0]), row["on"])
            for row in rows
            if (row["model"], row["px"]) == ("resnet50", 224)
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"--measured={path} is no file of `bench gpu --out=FILE` ({type(error).__name__})"
        ) from error
    if not found:
        raise UserError(
            f"--measured={path} has no row of resnet50 at 224 px: run `bench gpu --out={path}` again"
        )
    (rate, card), *_ = found
    return (Machine("measured x8", 8, rate, f"measured, {card}", 0.95),)


def projection(more: tuple[Machine, ...]) -> None:
    """Hours of full fine-tuning of ResNet-50 at 224 px.

    images x epochs / (chips x images a second and chip x efficiency). But for a measured card's, the
    rates are published or assumed, as printed. Other networks scale with their operations for an image
    (XLA's count of the training step), at the same share of the peak.

    Args:
        more: machines whose rate was measured.
    """
    machines = (*MACHINES, *more)
    for machine in machines:
        print(
            f"{machine.name:12}{machine.images:7,.0f} img/s a chip x {machine.chips} x "
            f"{machine.efficiency:.0%} ({machine.source})"
        )
    print(f"{'data set':16}{'epochs':>7}" + "".join(f"{machine.name:>12}" for machine in machines))
    for name, images, number in SETS:
        hours = [
            images * number / (machine.chips * machine.images * machine.efficiency) / 3600
            for machine in machines
        ]
        print(f"{name:16}{number:7}" + "".join(map(duration, hours)))
