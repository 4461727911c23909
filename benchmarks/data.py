"""Loader speed beside torch's DataLoader: the same files, decoding, size, batch and worker count.

    python -m ttl_jax bench data [--workers=2] [--seconds=4] [--rounds=3] [--steps=10]

Two cases: 28 px images in memory, batch 128; JPEG files of 300 x 260 px to 224 px, batch 32. Both
loaders deliver shuffled uint8 batches. Last, the share of the time that a ResNet-50 step at 224 px,
batch 16, waits for JPEG files to be read and decoded beside it. Rounds alternate; the best round of
each counts, as other programs on the machine only ever slow one down. Without torch only our own
figures are measured.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ttl_jax.data import ArrayReader, Dataset, train_batches
from ttl_jax.data.images.cache import DecodingReader
from ttl_jax.data.images.decode import Geometry, decode
from ttl_jax.errors import UserError

FILES = 512
DEFAULTS = {"workers": 2, "seconds": 4.0, "rounds": 3, "steps": 10}


def main(arguments: list[str]) -> None:
    """Measures and prints a table."""
    options = _options(arguments)
    workers, seconds, rounds = int(options["workers"]), options["seconds"], int(options["rounds"])
    has_torch = importlib.util.find_spec("torch") is not None
    print(f"{'case':34}{'ttl_jax img/s':>16}{'torch img/s':>16}{'ratio':>8}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        arrays = np.random.default_rng(0).integers(0, 256, (60_000, 28, 28, 3), dtype=np.uint8)
        files = write_files(Path(folder))
        geometry = Geometry(224)
        where = [str(path) for path in files]
        cases: list[tuple[str, int, Dataset, Callable[[], Iterator[object]]]] = [
            ("28 px in memory, batch 128", 128, dataset(ArrayReader(arrays)),
             lambda: torch_arrays(arrays, workers)),
            ("JPEG to 224 px, batch 32", 32, dataset(DecodingReader(files, where, geometry)),
             lambda: torch_files(files, geometry, workers)),
        ]  # fmt: skip
        for name, batch, data, other in cases:
            ours, theirs = 0.0, 0.0
            for _ in range(rounds):
                ours = max(
                    ours, speed(lambda batch=batch, data=data: ours_of(data, batch, workers), batch, seconds)
                )
                if has_torch:
                    theirs = max(theirs, speed(other, batch, seconds))
            ratio = f"{ours / theirs:8.2f}" if theirs else "       -"
            print(f"{name:34}{ours:16,.0f}{theirs:16,.0f}{ratio}", flush=True)
        share = waiting(dataset(DecodingReader(files, where, geometry)), workers, int(options["steps"]))
        print(f"a ResNet-50 step at 224 px waits for its batch {share:.1%} of the time", flush=True)


def waiting(data: Dataset, workers: int, steps: int) -> float:
    """Share of the time of training steps that goes by until their batch is there."""
    sys.path.insert(0, str(Path(__file__).parent))
    import cpu

    step = cpu.jax_step("resnet50", 224, 16, "train")
    step()
    batches = ours_of(data, 16, workers)
    next(batches)
    waited, began = 0.0, time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        next(batches)
        waited += time.perf_counter() - asked
        step()
    whole = time.perf_counter() - began
    del batches
    return waited / whole


def _options(arguments: list[str]) -> dict[str, float]:
    options: dict[str, float] = dict(DEFAULTS)
    for word in arguments:
        name, equals, value = word.removeprefix("--").partition("=")
        if name not in options or not equals:
            raise UserError(
                f"bench data takes --workers, --seconds, --rounds and --steps, each =NUMBER, not {word!r}"
            )
        options[name] = float(value)
    return options


def write_files(folder: Path) -> list[Path]:
    """JPEG files with the detail of photographs: smooth shapes and some noise."""
    from PIL import Image

    files = []
    for number in range(FILES):
        rng = np.random.default_rng(number)
        small = Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8))
        pixels = np.asarray(small.resize((300, 260), Image.Resampling.BICUBIC), np.int16)
        pixels = np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
        files.append(folder / f"{number}.jpg")
        Image.fromarray(pixels).save(files[-1], quality=90)
    return files


def dataset(reader: object) -> Dataset:
    """A training split of these images with some labels."""
    count = len(reader)  # type: ignore[arg-type]
    ids = np.arange(count).astype(str)
    labels = (np.arange(count) % 2).astype(np.int32)
    return Dataset("train", labels, ids, ids, ("a", "b"), "multiclass", reader)  # type: ignore[arg-type]


def ours_of(data: Dataset, batch: int, workers: int) -> Iterator[object]:
    """Endless batches of ours."""
    return train_batches(data, batch_size=batch, seed=0, start=0, stop=10**7, threads=workers)


def torch_arrays(arrays: np.ndarray, workers: int) -> Iterator[object]:
    """Endless batches of torch's DataLoader over arrays in memory."""
    import torch

    data = torch.utils.data.TensorDataset(torch.from_numpy(arrays), torch.arange(len(arrays)) % 2)
    return _endless(torch.utils.data.DataLoader(data, 128, shuffle=True, num_workers=workers))


def torch_files(files: list[Path], geometry: Geometry, workers: int) -> Iterator[object]:
    """Endless batches of torch's DataLoader with our decoding and resizing (PIL's)."""
    import torch

    class Files(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.from_numpy(decode(files[index], geometry).copy()), index % 2

    loader = torch.utils.data.DataLoader(
        Files(), 32, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    return _endless(loader)


def _endless(loader: object) -> Iterator[object]:
    while True:
        yield from loader  # type: ignore[misc]


def speed(start: Callable[[], Iterator[object]], batch: int, seconds: float) -> float:
    """Images a second once the pipeline is full."""
    batches = start()
    for _ in range(4):
        next(batches)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        next(batches)
        count += 1
    elapsed = time.perf_counter() - began
    del batches
    return count * batch / elapsed
