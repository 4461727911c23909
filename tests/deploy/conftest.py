"""Small finished runs that the tests of their use share."""

import numpy as np
import pytest

from ttl_jax.config import default_config, set_fields
from ttl_jax.data.dataset import ArrayReader, Dataset
from ttl_jax.training.run import train

SIZE = 32


def make_split(name, count, seed, shape=(SIZE, SIZE, 3), task="multiclass"):
    """Bright images are class 1, but some are not: validation has a temperature and thresholds."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.int32)
    shown = np.where(np.arange(count) % 7 == 0, 1 - labels, labels)
    images = rng.integers(0, 120, (count, *shape)) + 100 * shown.reshape(-1, *[1] * len(shape))
    ids = np.array([f"{name}-{number}" for number in range(count)])
    if task == "multilabel":
        labels = np.stack([labels, np.where(np.arange(count) % 5 == 0, np.nan, 1 - labels)], 1)
        labels = labels.astype(np.float32)
    return Dataset(name, labels, ids, ids, ("dark", "bright"), task, ArrayReader(images.astype(np.uint8)))


def make_sets(first_seed=0, **more):
    counts = {"train": 32, "val": 22, "test": 11}
    return {
        name: make_split(name, count, seed, **more)
        for seed, (name, count) in enumerate(counts.items(), first_seed)
    }


def make_config(**fields):
    settings = default_config()
    given = {
        "model.name": "resnet18", "model.weights": "none", "strategy": "truncated(3)",
        "data.image_size": SIZE, "data.batch_size": 8, "data.eval_batch_size": 8, "data.augment": "none",
        "total_steps": 6,
        "optimizer.lr": 1e-3, "report": False, "loggers": (),
    }  # fmt: skip
    set_fields(settings, given | {name.replace("__", "."): value for name, value in fields.items()})
    return settings


@pytest.fixture(name="make_sets", scope="session")
def _make_sets():
    return make_sets


@pytest.fixture(name="make_config", scope="session")
def _make_config():
    return make_config


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A cut network, trained: its result in this process, and its splits."""
    sets = make_sets()
    return train(make_config(), tmp_path_factory.mktemp("finished") / "run", sets), sets
