"""A run loaded from its folder predicts what the training process predicted, and nothing is guessed."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import recall_score

import ttl_jax
from ttl_jax.errors import UserError
from ttl_jax.evaluation import predictions
from ttl_jax.training.run import train


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_the_loaded_run_predicts_what_the_training_process_did(finished):
    result, sets = finished
    run, images = ttl_jax.load(result.workdir), sets["test"].images.images
    saved = predictions.load(result.workdir / "predictions" / "test.npz")
    close(run.predict(images), saved.probabilities)
    close(result.predict(images), saved.probabilities)
    close(run.predict(images[3]), saved.probabilities[3:4])
    assert run.metrics == result.metrics and run.class_names == ("dark", "bright")
    assert run.strategy.surgery.cut == 3 and run.config == result.config and run.folder == result.workdir
    for each in (run, result):
        assert len(repr(each).splitlines()) == 3 and len(repr(each)) < 500


def test_images_of_another_size_and_kind_are_prepared_as_in_training(finished):
    result, sets = finished
    run, images = ttl_jax.load(result.workdir), sets["test"].images.images[:4]
    large = [np.asarray(Image.fromarray(each).resize((50, 40))) for each in images]
    again = [np.asarray(Image.fromarray(each).resize((32, 32), Image.BILINEAR)) for each in large]
    close(run.predict(large), run.predict(np.stack(again)))
    close(run.predict(np.stack(large) / 255.0), run.predict(large))
    gray = images[..., 0]
    close(run.predict(gray), run.predict(np.repeat(gray[..., None], 3, -1)))
    assert run.predict([]).shape == (0, 2)
    with pytest.raises(UserError, match="image 0 goes from -0"):
        run.predict(images / 127.5 - 1)


def test_the_temperature_and_the_thresholds_are_those_of_validation(finished):
    result, _ = finished
    run, val = ttl_jax.load(result.workdir), predictions.load(result.workdir / "predictions" / "val.npz")
    logits = val.logits.astype(np.float64)

    def loss(scale):
        scaled = logits / scale
        log_p = scaled - np.log(np.exp(scaled).sum(1, keepdims=True))
        return -log_p[np.arange(len(val)), val.labels].mean()

    scale = run.signature.temperature
    assert scale != 1 and all(loss(scale) <= loss(scale * other) + 1e-9 for other in (0.9, 0.99, 1.01, 1.1))
    chances = run.signature.probabilities(val.logits, calibrated=True)[:, 1]
    assert run.signature.positive_class == "bright" and list(run.signature.thresholds) == ["bright"]
    for aim, at in run.signature.thresholds["bright"].items():
        kind, wanted = aim.split()
        found = recall_score(val.labels, chances >= at, pos_label=int(kind == "sensitivity"))
        assert found >= float(wanted)


def test_a_run_of_an_earlier_version_has_its_signature_derived(finished, tmp_path):
    result, sets = finished
    shutil.copytree(result.workdir, tmp_path / "old")
    (tmp_path / "old" / "signature.json").unlink()
    run = ttl_jax.load(tmp_path / "old")
    assert run.signature == result.signature and not (tmp_path / "old" / "signature.json").exists()
    close(run.predict(sets["test"].images.images), result.predict(sets["test"].images.images))


@pytest.mark.parametrize(
    "fields",
    [
        {"strategy": "truncated(2)", "task": "multilabel"},
        {"model__dtype": "bfloat16"},
        {"data__tta": "flips"},
        {"strategy": "truncated(2)+wise_ft(alpha=0.5)"},
        {"strategy": "truncated(2)+soup(kind='uniform',last=2)", "eval_every_epochs": 0.5},
        {"model__name": "resnet18_3d", "shape": (4, 32, 32, 3), "strategy": "truncated(2)", "data__depth": 4},
    ],
    ids=str,
)
def test_every_kind_of_run_is_loaded(tmp_path, make_config, make_sets, fields):
    kind = {name: fields[name] for name in ("task", "shape") if name in fields}
    sets = make_sets(**kind)
    given = {name: value for name, value in fields.items() if name not in kind}
    train(make_config(**given), tmp_path, sets)
    saved = predictions.load(tmp_path / "predictions" / "test.npz")
    close(ttl_jax.load(tmp_path).predict(sets["test"].images.images), saved.probabilities)


def test_what_is_no_finished_run_is_said(finished, tmp_path):
    result, _ = finished
    with pytest.raises(UserError, match="not the folder of a finished run: it has no config.json$"):
        ttl_jax.load(tmp_path)
    shutil.copytree(result.workdir, tmp_path / "run")
    with pytest.raises(UserError, match="no config.json; finished runs in it: run$"):
        ttl_jax.load(tmp_path)
    path = tmp_path / "run" / "signature.json"
    held = json.loads(path.read_text())
    for change, said in (
        ({"format": 2}, "has format 2"),
        ({"geometry": {}}, "is damaged"),
        ({"network": {**held["network"], "cut": 2}}, "are not those of resnet18"),
    ):
        path.write_text(json.dumps(held | change))
        with pytest.raises(UserError, match=said):
            ttl_jax.load(tmp_path / "run")
    path.write_text(json.dumps(held))
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(UserError, match="cannot be used"):
        ttl_jax.load(tmp_path / "run")


def test_several_devices_share_the_batches(finished, tmp_path):
    result, sets = finished
    images = sets["test"].images.images
    np.save(tmp_path / "images.npy", images)
    program = (
        "import sys, jax, numpy as np, ttl_jax; assert len(jax.devices()) == 4\n"
        "run = ttl_jax.load(sys.argv[1]); np.save(sys.argv[3], run.predict(np.load(sys.argv[2])))"
    )
    words = [result.workdir, tmp_path / "images.npy", tmp_path / "found.npy"]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    four = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    subprocess.run([sys.executable, "-c", program, *map(str, words)], env=os.environ | four, check=True)
    close(np.load(tmp_path / "found.npy"), result.predict(images))
