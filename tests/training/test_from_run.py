"""A run that starts from the weights that another one kept."""

import jax
import numpy as np
import pytest

import ttl_jax
from ttl_jax import strategies
from ttl_jax.config import run_config, set_fields
from ttl_jax.errors import UserError
from ttl_jax.training.build import build_model
from ttl_jax.training.run import train
from ttl_jax.weights import initialise
from ttl_jax.weights.initialise import flatten


@pytest.fixture
def finished(tmp_path, config, datasets):
    """A cut network, trained."""
    set_fields(config, {"strategy": "truncated(4)", "total_steps": 3})
    return train(config, tmp_path / "old", datasets)


def built(config, run, names=("dark", "bright"), **fields):
    set_fields(config, {"model.weights": str(run.workdir)} | fields)
    settings = run_config(config)
    variables = build_model(settings, strategies.parse(settings.strategy), len(names), names)[1]
    return flatten(variables)


def test_the_head_is_kept_where_the_classes_agree_and_all_else_always(finished, config):
    held = flatten(jax.device_get(finished.variables))
    same = built(config, finished)
    assert same.keys() == held.keys()
    for path in held:
        np.testing.assert_array_equal(same[path], held[path])
    assert any(path.endswith("/mean") and np.abs(held[path]).max() > 0 for path in held)
    for names in (("bright", "dark"), ("dark", "light"), ("a", "b", "c")):
        other = built(config, finished, names)
        for path in held:
            if path.startswith("params/head/"):
                drawn = initialise("resnet18", len(names), seed=config.seed, cut=4)["params"]["head"]
                np.testing.assert_array_equal(other[path], drawn[path.rpartition("/")[2]])
            else:
                np.testing.assert_array_equal(other[path], held[path])


def test_a_lower_cut_takes_its_units_and_a_fresh_head(finished, config):
    held, lower = (
        flatten(jax.device_get(finished.variables)),
        built(config, finished, strategy="truncated(3)"),
    )
    assert lower.keys() < held.keys()
    for path in lower:
        same = np.array_equal(lower[path], held[path])
        assert same != path.startswith("params/head/")


def test_units_that_the_run_lacks_are_named_or_start_fresh_if_asked(finished, config):
    with pytest.raises(UserError, match=r"(?s)it ends at unit 4: cut this run there too.*missing .*kernel"):
        built(config, finished, strategy="full")
    whole = built(config, finished, strategy="full", **{"model.partial": True})
    held = flatten(jax.device_get(finished.variables))
    shared = [path for path in held if not path.startswith("params/head/")]
    assert all(np.array_equal(whole[path], held[path]) for path in shared)
    with pytest.raises(UserError, match="is a run of resnet18, which model.name is not"):
        built(config, finished, **{"model.name": "resnet34"})
    with pytest.raises(UserError, match="cotuning needs the head of pretrained weights"):
        built(config, finished, strategy="truncated(4)+cotuning")


def test_a_run_goes_on_from_another_and_wants_images_as_that_did(
    finished, config, datasets, tmp_path, capsys
):
    set_fields(config, {"model.weights": str(finished.workdir), "total_steps": 1, "optimizer.lr": 1e-12})
    result = train(config, tmp_path / "new", datasets)
    assert "its head is kept" in capsys.readouterr().out
    images = datasets["test"].images.images
    np.testing.assert_allclose(result.variables["params"]["head"]["kernel"],
                               finished.variables["params"]["head"]["kernel"], atol=1e-6)  # fmt: skip
    assert result.signature.normalisation == finished.signature.normalisation
    again = ttl_jax.load(tmp_path / "new")
    np.testing.assert_allclose(again.predict(images), result.predict(images), rtol=0, atol=1e-6)
