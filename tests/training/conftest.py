"""Small data sets and configs that a real run goes through in seconds."""

import threading

import numpy as np
import pytest

from ttl_jax.config import default_config, set_fields
from ttl_jax.data.dataset import ArrayReader, Dataset
from ttl_jax.training import compile_ahead
from ttl_jax.training.predictor import Predictor


def make_split(name, count, seed, size=32, task="multiclass"):
    """Bright images are class 1: learnable in a few steps."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.int32)
    images = rng.integers(0, 120, (count, size, size, 3)) + 100 * labels[:, None, None, None]
    ids = np.array([f"{name}-{number}" for number in range(count)])
    if task == "multilabel":
        unknown = np.where(np.arange(count) % 5 == 0, np.nan, 1 - labels)
        labels = np.stack([labels, unknown], 1).astype(np.float32)
    return Dataset(name, labels, ids, ids, ("dark", "bright"), task, ArrayReader(images.astype(np.uint8)))


@pytest.fixture(name="make_split")
def make_split_fixture():
    return make_split


@pytest.fixture
def datasets():
    return {name: make_split(name, count, seed) for seed, (name, count) in
            enumerate({"train": 20, "val": 10, "test": 11}.items())}  # fmt: skip


@pytest.fixture
def config():
    settings = default_config()
    set_fields(
        settings,
        {
            "model.name": "resnet18", "model.weights": "none", "data.image_size": 32,
            "data.batch_size": 8, "data.eval_batch_size": 4, "data.augment": "flip",
            "total_steps": 6, "optimizer.lr": 1e-3, "report": False, "training_features": False,
        },
    )  # fmt: skip
    return settings


@pytest.fixture
def compiled_in(monkeypatch):
    """The thread that each step is compiled in, in the order of their beginning."""
    threads, plain = [], compile_ahead.compile_step

    def compile_step(*given):
        threads.append(threading.current_thread().name)
        return plain(*given)

    monkeypatch.setattr(compile_ahead, "compile_step", compile_step)
    return threads


@pytest.fixture
def validated_in(monkeypatch):
    """The thread that each program to validate with is made in, in their order."""
    threads, plain = [], Predictor.compile

    def compile(predict, variables, images):
        before = len(predict._compiled)
        found = plain(predict, variables, images)
        if len(predict._compiled) > before:
            threads.append(threading.current_thread().name)
        return found

    monkeypatch.setattr(Predictor, "compile", compile)
    return threads
