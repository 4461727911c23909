"""Makes activations.npz and NAME.npz from torch and torchvision. Run once, with torch: see `make golden`.

Kept of every unit: the values at 16 fixed places, the mean and the largest magnitude. The weights are not
kept: each tensor is a function of its name (parity/reference.py, and again in test_golden.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "parity"))
import conftest  # noqa: E402, F401  # makes torchvision importable on a CPU torch
import reference  # noqa: E402

NAMES = ("resnet18", "resnet50", "densenet121", "vgg16_bn", "efficientnet_b0", "efficientnet_lite0")
# Files of their own, so that one can be made without the others: `make_golden.py NAME...`
ALONE = {
    "alexnet": (96, 96, 3),
    "cbr_larget": (224, 224, 3),
    "cbr_largew": (128, 128, 3),
    "cbr_small": (128, 128, 3),
    "cbr_tiny": (96, 96, 3),
    "bit_r50x1": (64, 64, 3),
    "clip_resnet50": (64, 64, 3),
    "penet": (8, 32, 32, 3),
    "resnet18_3d": (8, 24, 24, 3),
    "resnet50_3d": (8, 32, 32, 3),
}
SIZE, PLACES = 32, 16


def places(count: int) -> np.ndarray:
    """Evenly spread positions in a flattened activation."""
    return np.linspace(0, count - 1, PLACES).astype(int)


def summaries(name: str, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """What is kept of every unit and the logits of a network."""
    network, kept = reference.build(name), {}
    found = reference.activations(network, reference.taps(name, network), reference.examples(shape))
    for unit, value in found.items():
        # DenseNet's own layers give the new channels only: their last channels are the same.
        flat = value.reshape(-1)
        summary = [flat.mean(dtype=np.float64), np.abs(flat).max()]
        kept[f"{name}:{unit}"] = np.float32([*flat[places(flat.size)], *summary])
        kept[f"{name}:{unit}:channels"] = np.int32(value.shape[-1])
    return kept


def main(names: list[str]) -> None:
    if not names:
        kept = {}
        for name in NAMES:
            kept |= summaries(name, (SIZE, SIZE, 3))
        np.savez_compressed(HERE / "activations.npz", **kept)
    for name in names or ALONE:
        kept = summaries(name, ALONE[name])
        np.savez_compressed(HERE / f"{name}.npz", shape=np.int32(ALONE[name]), **kept)


if __name__ == "__main__":
    main(sys.argv[1:])
