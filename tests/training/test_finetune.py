"""One call from Python: a config's run, and a sentence where that is not possible."""

import jax
import numpy as np
import pytest

import ttl_jax
from ttl_jax import data as data_package
from ttl_jax.config import default_config, set_fields
from ttl_jax.config.data import data_config
from ttl_jax.errors import UserError
from ttl_jax.training.run import train

FIELDS = {"total_steps": 3, "data__image_size": 32, "data__batch_size": 8, "augment": "none", "report": False}


@pytest.fixture(autouse=True)
def _cache_of_its_own(monkeypatch):
    monkeypatch.setattr("ttl_jax.training.finetune.set_up_cache", lambda: None)


@pytest.fixture
def arrays(make_split):
    split = make_split("all", 40, seed=0)
    return split.images.images, split.labels


def test_arrays_are_trained_on_as_by_the_config(tmp_path, arrays):
    found = ttl_jax.finetune(
        arrays, model="resnet18", weights="none", strategy="linear_probe", workdir=tmp_path / "a", **FIELDS
    )
    config = default_config()
    set_fields(config, {"model.name": "resnet18", "model.weights": "none", "strategy": "linear_probe"})
    set_fields(
        config,
        {"total_steps": 3, "data.image_size": 32, "data.batch_size": 8, "data.augment": "none",
         "report": False},
    )  # fmt: skip
    sets = data_package.from_arrays(*arrays, data_config(config.data))
    wanted = train(config, tmp_path / "b", sets)
    jax.tree.map(np.testing.assert_array_equal, found.variables, wanted.variables)
    assert found.metrics["test"] == wanted.metrics["test"]
    assert sum(map(len, sets.values())) == 40


def test_a_folder_a_table_and_a_phantom_are_data(tmp_path, arrays):
    from PIL import Image

    for number, (image, label) in enumerate(zip(*arrays, strict=True)):
        (tmp_path / f"images/{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / f"images/{label}/{number}.png")
    rows = [f"images/{label}/{number}.png,{label}" for number, label in enumerate(arrays[1])]
    (tmp_path / "t.csv").write_text("\n".join(["image,label", *rows]))
    for data in (tmp_path / "images", str(tmp_path / "t.csv"), "phantom/mri"):
        found = ttl_jax.finetune(
            data, model="resnet18", weights="none", strategy="linear_probe",
            workdir=tmp_path / "run" / str(data)[-4:], **FIELDS,
        )  # fmt: skip
        assert 0 <= found.metrics["test"]["auroc"] <= 1


@pytest.mark.parametrize(
    ("data", "fields", "said"),
    [(None, {"totl_steps": 3}, "'totl_steps' does not exist.*total_steps"),
     (None, {"name": "x"}, "'name' could be .* or .*; write "),
     (None, {"strategy": "fullest"}, "fullest"), ("nowhere", {}, "nowhere does not exist"),
     (None, {"data__path": "mine"}, "data__path='mine' is not read"), (7, {}, "data must be a path")],
)  # fmt: skip
def test_what_cannot_be_is_said_in_a_sentence(tmp_path, arrays, data, fields, said):
    with pytest.raises(UserError, match=said):
        ttl_jax.finetune(
            arrays if data is None else data, **{"weights": "none", "workdir": tmp_path, **FIELDS, **fields}
        )


def test_the_process_stays_the_users(tmp_path, arrays, monkeypatch):
    kept = []
    monkeypatch.setattr("ttl_jax.system.placing.keep_memory", lambda: kept.append(1))
    aside = jax.config.read("jax_cpu_enable_async_dispatch")
    try:
        jax.config.update("jax_cpu_enable_async_dispatch", True)
        ttl_jax.finetune(
            arrays, model="resnet18", weights="none", strategy="linear_probe", workdir=tmp_path, **FIELDS
        )
        assert jax.config.read("jax_cpu_enable_async_dispatch") and not kept
    finally:
        jax.config.update("jax_cpu_enable_async_dispatch", aside)
