"""Train, predict, load and answer again and again in one process: do memory, files or threads grow?

`make torture-soak MINUTES=30`. A round makes other images than the one before, trains on their folder with
the report, predicts them by the command, loads the run, and asks it as `serve` does. After each the resident
memory (without freed memory that the allocator keeps), open file descriptors and threads are written down.

Grown are descriptors or threads of which the second half of the rounds has more than the first had at most
(but the first two rounds, which import and start things), and memory whose straight line through the second
half rises by more than GROWTH of its median. Prints a line a round; exit status 1 where something has grown.

The target sets MALLOC_ARENA_MAX=1. With a heap for each of some 30 threads malloc keeps more and more pages
for small blocks between free ones, 100 MiB in the end; in one heap only what is held is left to see.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

GROWTH = 0.02  # share of the resident memory, over the second half of the rounds
FEWEST = 8  # rounds that can be judged
SIZE = 32
FIELDS = (
    f"--config.data.image_size={SIZE}", "--config.data.batch_size=8", "--config.data.eval_batch_size=8",
    "--config.model.name=resnet18", "--config.model.weights=none", "--config.strategy=truncated(2)+lp_ft",
    "--config.total_steps=6",
)  # fmt: skip


class Held(NamedTuple):
    """What the process holds after a round: MiB of resident memory, and counts."""

    mebibytes: float
    descriptors: int
    threads: int


def held() -> Held:
    """What this process holds now, once what the allocator keeps of freed memory is handed back."""
    from ttl_jax.system.host import release_memory

    gc.collect()
    release_memory()
    status = Path("/proc/self/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines())
    kibibytes, threads = lines["VmRSS"].split()[0], lines["Threads"]
    return Held(int(kibibytes) / 1024, len(os.listdir("/proc/self/fd")), int(threads))


def grown(rounds: list[Held]) -> list[str]:
    """Say what has grown, by the rule above; nothing of fewer than FEWEST rounds."""
    if len(rounds) < FEWEST:
        return []
    middle = len(rounds) // 2
    before, after = rounds[2:middle], rounds[middle:]
    said = []
    memory = np.array([each.mebibytes for each in after])
    rise = np.polyfit(np.arange(len(after)), memory, 1)[0] * len(after)
    if rise > GROWTH * np.median(memory):
        said.append(f"memory rises by {rise:.0f} MiB over {len(after)} rounds of {np.median(memory):.0f} MiB")
    for name in ("descriptors", "threads"):
        most, now = (max(getattr(each, name) for each in half) for half in (before, after))
        if now > most:
            said.append(f"{name}: {now}, where the first half had {most} at most")
    return said


def write_images(folder: Path, seed: int) -> None:
    """Write 40 images of two classes."""
    rng = np.random.default_rng(seed)
    for number in range(40):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 156, (SIZE + seed % 3, SIZE, 3)) + 100 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(path)


def one_round(folder: Path, seed: int) -> None:
    """Train on images, predict them by the command, load the run and ask it as `serve` does."""
    import ttl_jax
    from ttl_jax.cli import main
    from ttl_jax.deploy.answerer import Answerer, Limits
    from ttl_jax.deploy.predict import Asked, ensemble

    images, run = folder / "images", folder / "run"
    write_images(images, seed)
    words = (
        "train",
        "--config=train",
        f"--workdir={run}",
        f"--config.data.path={images}",
        f"--config.seed={seed}",
    )
    commands = (
        (*words, *FIELDS),
        ("predict", str(run), str(images), f"--out={folder / 'table.csv'}", "--ood"),
        ("report", str(run), f"--out={folder / 'report.html'}"),
    )
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        for command in commands:
            if status := main(["ttl-jax", *command]):
                raise SystemExit(f"{' '.join(command)} ended with status {status}")
        loaded = ttl_jax.load(run)
        files = sorted(images.rglob("*.png"))
        loaded.predict([str(file) for file in files[:10]])
        answerer = Answerer(ensemble([loaded], Asked(coverage=0.9, distance=True)), Limits(batch=4))
        for file in files:
            answerer.answer([answerer.read(file.read_bytes(), pictures=True)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    until = time.monotonic() + 60 * parser.parse_args().minutes
    rounds: list[Held] = []
    while len(rounds) < FEWEST or time.monotonic() < until:
        folder = Path(tempfile.mkdtemp())
        try:
            one_round(folder, len(rounds))
        finally:
            shutil.rmtree(folder)
        rounds.append(held())
        print(f"round {len(rounds)}: {rounds[-1].mebibytes:.1f} MiB, {rounds[-1].descriptors} descriptors, "
              f"{rounds[-1].threads} threads", flush=True)  # fmt: skip
    said = grown(rounds)
    first, middle, last = (rounds[place] for place in (0, len(rounds) // 2, -1))
    print(f"{len(rounds)} rounds; first, middle and last: {first}, {middle}, {last}")
    print("\n".join(said) or "nothing has grown")
    return bool(said)


if __name__ == "__main__":
    sys.exit(main())
