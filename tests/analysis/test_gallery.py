"""The gallery that a run leaves: which examples, whose images, and once."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ttl_jax import models
from ttl_jax.analysis.cam_gallery import ERRORS, RIGHT, write_gallery
from ttl_jax.config import RunConfig
from ttl_jax.data.dataset import ArrayReader, Dataset
from ttl_jax.data.images.decode import Geometry
from ttl_jax.data.read_images import SourceOptions
from ttl_jax.evaluation import predictions, probabilities
from ttl_jax.training.records.signature import Architecture, Signature
from ttl_jax.training.result import Result
from ttl_jax.weights.preprocessing import IMAGENET


@pytest.fixture
def left(tmp_path):
    """A network with random weights that has "finished": its result, its one split, its logits."""
    random = np.random.default_rng(0)
    images = np.stack([np.full((64, 64, 3), 8 * place, np.uint8) for place in range(30)])
    images[:, :20, :20] = random.integers(256, size=(30, 20, 20, 3))
    network = models.create("cbr_tiny", 2, cut="stage2/pool")
    variables = network.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    head = {"kernel": random.normal(size=(128, 2)).astype(np.float32), "bias": np.zeros(2, np.float32)}
    variables = {**variables, "params": {**variables["params"], "head": head}}
    logits = 50 * np.asarray(network.apply(variables, normalise(images)))
    labels = np.arange(30) % 2
    ids = np.array([f"image {place}" for place in range(30)])
    names, task = ("no", "yes"), "multiclass"
    split = Dataset("test", labels, ids, ids, names, task, ArrayReader(images))
    predictions.save(tmp_path / "predictions" / "test.npz", ids=ids, groups=ids, labels=labels,
                     logits=logits, class_names=names, task=task)  # fmt: skip
    known = Signature(Architecture("cbr_tiny"), Geometry(64), IMAGENET, SourceOptions(), "none", task, names)
    result = Result({}, tmp_path, RunConfig(), network, variables, known, lambda *_: logits)
    return result, {"test": split}, logits


def normalise(images):
    return images.astype(jnp.float32) / 255


def test_it_holds_the_surest_errors_and_right_ones_with_their_own_images(left):
    result, splits, logits = left
    place = write_gallery(result, splits, normalise)
    found = json.loads((place / "index.json").read_text())
    chances, labels = probabilities(logits, "multiclass"), splits["test"].labels
    assert len(np.unique(chances.argmax(axis=1))) == 2  # the case has something to show
    wrong = np.flatnonzero(chances.argmax(axis=1) != labels)
    surest = wrong[np.argsort(-chances.max(axis=1)[wrong], kind="stable")][:ERRORS]
    entries = found["entries"]
    assert [each["row"] for each in entries if not each["right"]] == surest.tolist()
    assert len([each for each in entries if each["right"]]) == RIGHT
    for each in entries:
        assert each["id"] == f"image {each['row']}"
        saved = np.asarray(Image.open(place / each["image"]).convert("RGB"), int)
        assert abs(np.median(saved[30:, 30:]) - 8 * each["row"]) <= 2  # the grey of that very image
        assert Image.open(place / each["map"]).size == (64, 64)
    assert found["split"] == "test"


def test_it_is_written_once(left):
    result, splits, _ = left
    place = write_gallery(result, splits, normalise)
    before = (place / "00-map.jpg").stat().st_mtime_ns
    assert write_gallery(result, {}, normalise) == place
    assert (place / "00-map.jpg").stat().st_mtime_ns == before
    assert not (result.workdir / "gallery.tmp").exists()
