"""Every unit within 1e-5 of torchvision's, without torch: golden activations (make_golden.py)."""

import re
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest

from ttl_jax import models, weights
from ttl_jax.weights.initialise import template
from ttl_jax.weights.keymaps import names_of, to_torch

HERE = Path(__file__).parent
FILES = {file.stem: dict(np.load(file)) for file in sorted(HERE.glob("*.npz"))}
ALONE = {name: tuple(kept.pop("shape")) for name, kept in FILES.items() if "shape" in kept}
KEPT = {key: value for kept in FILES.values() for key, value in kept.items()}
NAMES = sorted({key.split(":")[0] for key in KEPT})


BIT_LAST_NORM = re.compile(r"stages\.\d\.blocks\.\d\.norm3\.")


def values(name, shape):
    """As parity/reference.py draws them for torch."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.endswith("running_mean"):
        return rng.normal(0, 0.2, shape).astype(np.float32)
    if len(shape) == 1:
        centre = 1.0 if name.endswith("weight") else 0.0
        scale = 0.1 if BIT_LAST_NORM.match(name) else 1.0
        return (scale * (centre + rng.normal(0, 0.2, shape))).astype(np.float32)
    return rng.normal(0, np.sqrt(1 / np.prod(shape[1:])), shape).astype(np.float32)


def test_every_family_is_here():
    families = {name.removesuffix("_3d").split("_")[0].rstrip("0123456789") for name in NAMES}
    assert families >= {"resnet", "densenet", "vgg", "efficientnet", "alexnet", "bit", "cbr", "clip", "penet"}
    assert {"resnet18_3d", "resnet50_3d"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_unit_and_the_logits(name):
    shapes = template(name, 1000)
    theirs = names_of(shapes, name)
    state = {
        theirs[path]: values(theirs[path], to_torch(path, np.broadcast_to(np.float32(0), leaf.shape)).shape)
        for path, leaf in shapes.items()
    }
    shape = ALONE.get(name, (32, 32, 3))
    images = np.random.default_rng(3).normal(size=(2, *shape)).astype(np.float32)
    units = tuple(unit.name for unit in models.units(name))
    network, variables = models.create(name, 1000), weights.load(state, name)
    logits, found = jax.jit(lambda v, x: network.apply(v, x, capture=units))(variables, images)
    found = {**found, "logits": logits}
    assert set(found) == {key.split(":")[1] for key in KEPT if key.startswith(f"{name}:")}
    for unit, value in found.items():
        *expected, mean, largest = KEPT[f"{name}:{unit}"]
        mine = np.asarray(value)[..., -int(KEPT[f"{name}:{unit}:channels"]) :].reshape(-1)
        places = np.linspace(0, mine.size - 1, len(expected)).astype(int)
        assert np.abs(mine[places] - expected).max() < 1e-5 * largest, unit
        # Means and largest magnitudes agree too: nothing beside the 16 places is far off.
        assert abs(mine.mean(dtype=np.float64) - mean) < 1e-5 * largest, unit
        assert abs(np.abs(mine).max() - largest) < 1e-5 * largest, unit
