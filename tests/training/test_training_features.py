"""What a run keeps of its training images: features that its logits follow from, hashes, no pixels."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from ttl_jax.data.dataset import ArrayReader, Dataset
from ttl_jax.data.images.cache import read_all
from ttl_jax.data.images.decode import Geometry
from ttl_jax.errors import UserError
from ttl_jax.evaluation.out_of_distribution import NEIGHBOURS
from ttl_jax.training.records import training_features
from ttl_jax.training.records.training_features import FILE, load_training_features
from ttl_jax.training.run import train


def test_features_are_those_that_the_logits_follow_from(tmp_path, config, datasets):
    config.training_features = True
    result = train(config, tmp_path, {**datasets, "val": datasets["train"]})
    kept = load_training_features(tmp_path)
    head = result.variables["params"]["head"]
    images = datasets["train"].images.images
    logits = kept.features.astype(np.float32) @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        chances / chances.sum(axis=1, keepdims=True), result.predict(images), atol=5e-3
    )
    assert kept.ids.tolist() == datasets["train"].ids.tolist() and kept.images == 20
    np.testing.assert_array_equal(kept.labels, datasets["train"].labels)
    # the digests by which a data set's copies are found
    read = read_all(list(images), kept.ids.tolist(), Geometry(32), 1.0)
    assert [digest.tobytes() for digest in kept.hashes] == list(read.hashes)
    # nothing that could be looked at
    assert kept.fingerprints.shape == (20, 143) and kept.features.shape == (20, 512)
    unit = kept.features.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    wanted = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(unit).kneighbors(unit)[0][:, -1]
    np.testing.assert_allclose(kept.validation, wanted, atol=1e-3)  # validation's images are training's here
    # again: it stays; removed: the same command writes it, and trains nothing
    written = (tmp_path / FILE).read_bytes()
    train(config, tmp_path, {**datasets, "val": datasets["train"]})
    assert (tmp_path / FILE).read_bytes() == written
    (tmp_path / FILE).unlink()
    train(config, tmp_path, {**datasets, "val": datasets["train"]})
    np.testing.assert_array_equal(load_training_features(tmp_path).features, kept.features)


def test_of_many_images_some_are_kept_and_a_run_may_keep_none(tmp_path, config, datasets, monkeypatch):
    monkeypatch.setattr(training_features, "MOST", 7)
    config.total_steps, config.strategy, config.training_features = 1, "linear_probe", True
    blank = datasets["train"].images.images.copy()
    blank[:, :, :] = 90  # of one colour: copies of nothing
    plain = {name: getattr(datasets["train"], name) for name in Dataset.__dataclass_fields__}
    train(config, tmp_path / "some", {**datasets, "train": Dataset(**plain | {"images": ArrayReader(blank)})})
    kept = load_training_features(tmp_path / "some")
    assert len(kept.ids) == len(kept.features) == len(kept.labels) == 7 and kept.images == 20
    assert not kept.hashes.any() and not kept.fingerprints.any()
    config.training_features = False
    train(config, tmp_path / "none", datasets)
    with pytest.raises(UserError, match="keeps no features .* given again, writes them"):
        load_training_features(tmp_path / "none")
    (tmp_path / "none" / FILE).write_bytes(b"half")
    with pytest.raises(UserError, match="cannot be used"):
        load_training_features(tmp_path / "none")
