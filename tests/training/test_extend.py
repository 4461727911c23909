"""More epochs for a finished run."""

import json

import numpy as np
import pytest

import ttl_jax
from ttl_jax.config import run_config, set_fields
from ttl_jax.errors import UserError
from ttl_jax.training.extend import extend
from ttl_jax.training.hooks.pause import Pause, Paused
from ttl_jax.training.run import train


@pytest.fixture
def constant(config):
    """A rate that does not depend on the length of the phase."""
    set_fields(config, {"schedule.name": "constant", "schedule.warmup": 0.0, "strategy": "truncated(3)"})
    return config


def longer(workdir, config, steps):
    config.total_steps = steps
    extend(workdir, run_config(config))


def validations(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if line.get("split") == "val"}


def test_at_a_constant_rate_it_is_the_run_that_was_as_long_from_the_start(tmp_path, constant, datasets):
    constant.total_steps = 3
    short = train(constant, tmp_path / "a", datasets)
    longer(tmp_path / "a", constant, 8)
    with pytest.raises(Paused):
        train(constant, tmp_path / "a", datasets, hooks=[Pause(0.6)])
    found = train(constant, tmp_path / "a", datasets)
    wanted = train(constant, tmp_path / "b", datasets)
    one, other = validations(tmp_path / "a"), validations(tmp_path / "b")
    assert one[8] == other[8] and {3, 5, 8} <= one.keys()
    assert found.metrics["steps"] == wanted.metrics["steps"] == 8
    kept = json.loads((tmp_path / "a" / "before-1" / "result.json").read_text())
    assert kept == short.metrics and (tmp_path / "a" / "before-1" / "predictions" / "test.npz").exists()
    images = datasets["test"].images.images
    np.testing.assert_allclose(ttl_jax.load(tmp_path / "a").predict(images), found.predict(images), atol=1e-6)
    assert train(constant, tmp_path / "a", datasets).metrics == found.metrics


def test_of_several_phases_the_last_is_longer(tmp_path, config, datasets):
    set_fields(config, {"strategy": "truncated(2)+lp_ft", "total_steps": 6})
    train(config, tmp_path, datasets)
    began = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    longer(tmp_path, config, 9)
    extend(tmp_path, run_config(config))  # killed before training, the same command goes on
    assert train(config, tmp_path, datasets).metrics["steps"] == 9
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[: len(began)] == began
    assert {line["phase"] for line in lines[len(began) :]} == {began[-1]["phase"]}
    longer(tmp_path, config, 10)
    assert train(config, tmp_path, datasets).metrics["steps"] == 10
    assert json.loads((tmp_path / "before-2" / "result.json").read_text())["steps"] == 9


def test_what_cannot_be_continued_is_said(tmp_path, constant, datasets):
    with pytest.raises(UserError, match="holds no run"):
        longer(tmp_path / "a", constant, 7)
    constant.total_steps = 5
    with pytest.raises(Paused):
        train(constant, tmp_path / "a", datasets, hooks=[Pause(0.5)])
    with pytest.raises(UserError, match="is not finished"):
        longer(tmp_path / "a", constant, 7)
    constant.total_steps = 5
    train(constant, tmp_path / "a", datasets)
    before = (tmp_path / "a" / "config.json").read_text()
    for steps, said in ((5, "is as long already"), (4, "is longer already")):
        with pytest.raises(UserError, match=said):
            longer(tmp_path / "a", constant, steps)
    constant.optimizer.lr = 0.5
    with pytest.raises(UserError, match="holds a run of another config"):
        longer(tmp_path / "a", constant, 7)
    assert (tmp_path / "a" / "config.json").read_text() == before
    assert (tmp_path / "a" / "result.json").exists()
