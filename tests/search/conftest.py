"""A data set of bright and dark images, and the config of a search that takes seconds."""

import matplotlib.figure
import numpy as np
import pytest

from ttl_jax.config import set_fields
from ttl_jax.data.dataset import ArrayReader, Dataset
from ttl_jax.search.config import search_config


class Counted(ArrayReader):
    """An array that counts the images read from it."""

    def __init__(self, images):
        super().__init__(images)
        object.__setattr__(self, "reads", [])

    def read(self, indices):
        self.reads.append(len(indices))
        return super().read(indices)


def make_split(name, count, seed):
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.int32)
    images = rng.integers(0, 200, (count, 32, 32, 3)) + 30 * labels[:, None, None, None]
    ids = np.array([f"{name}-{number}" for number in range(count)])
    return Dataset(name, labels, ids, ids, ("dark", "bright"), "multiclass", Counted(images.astype(np.uint8)))


@pytest.fixture
def datasets():
    return {name: make_split(name, count, seed) for seed, (name, count) in
            enumerate({"train": 16, "val": 16, "test": 11}.items())}  # fmt: skip


@pytest.fixture
def config():
    settings = search_config()
    set_fields(
        settings,
        {
            "model.name": "resnet18", "model.weights": "none", "data.image_size": 32,
            "data.batch_size": 8, "data.eval_batch_size": 16, "data.augment": "none",
            "total_steps": 4, "optimizer.lr": 1e-3, "select": "auroc",
            "search.units": "1-2", "search.stages": "2", "search.method": "exhaustive",
        },
    )  # fmt: skip
    return settings


@pytest.fixture
def axes_of(tmp_path, monkeypatch):
    """Draws a record; returns the axes of the figure that was saved."""
    made = []

    class Kept(matplotlib.figure.Figure):
        def savefig(self, *arguments, **options):
            made.append(self)
            super().savefig(*arguments, **options)

    monkeypatch.setattr(matplotlib.figure, "Figure", Kept)

    def draw(module, record):
        module.draw(record, tmp_path / "x.png")
        assert (tmp_path / "x.png").stat().st_size > 1000
        return made[-1].axes

    return draw
