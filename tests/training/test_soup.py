"""Soups of runs: the mean of their weights, chosen on validation, and what cannot be averaged."""

import numpy as np
import pytest

from ttl_jax import data, strategies
from ttl_jax.analysis.soup_of_runs import soup
from ttl_jax.config import set_fields
from ttl_jax.errors import UserError
from ttl_jax.training.build import load_run
from ttl_jax.training.run import train


@pytest.fixture
def runs(tmp_path, config, datasets, monkeypatch):
    """Three seeds of a small run; the soup reads the same data again."""
    monkeypatch.setattr(data, "load", lambda settings: datasets)
    set_fields(config, {"strategy": "truncated(2)", "total_steps": 3})
    folders = []
    for seed in range(3):
        set_fields(config, {"seed": seed})
        folders.append(train(config, tmp_path / f"seed{seed}", datasets).workdir)
    return folders


def test_a_soup_is_the_mean_of_the_runs_it_keeps_and_is_scored_like_one(runs, tmp_path):
    result = soup(runs, tmp_path / "soup", "uniform")
    kernels = [load_run(run).best["params"]["stem"]["conv"]["kernel"] for run in runs]
    mixed = load_run(tmp_path / "soup").best["params"]["stem"]["conv"]["kernel"]
    np.testing.assert_allclose(mixed, np.mean(kernels, axis=0), rtol=1e-5, atol=1e-7)
    assert result["soup"]["kept"] == [str(run) for run in runs] and result["test"]["n"] == 11
    assert result["strategy"] == "uniform soup of 3 from 3 runs"
    size = sum(leaf.size for leaf in strategies.flatten(load_run(runs[0]).best["params"]).values())
    assert result["params"] == size
    greedy = soup(runs, tmp_path / "greedy")  # no worse on validation than the best run
    assert greedy["val"]["auroc"] >= max(greedy["soup"]["runs"].values()) - 1e-9


def test_what_cannot_be_averaged_is_refused(runs, tmp_path, config, datasets):
    with pytest.raises(UserError, match="at least two"):
        soup(runs[:1], tmp_path / "soup")
    with pytest.raises(UserError, match="kind='x'"):
        soup(runs, tmp_path / "soup", "x")
    set_fields(config, {"strategy": "truncated(3)"})
    deeper = train(config, tmp_path / "deeper", datasets).workdir
    with pytest.raises(UserError, match="the networks differ in shape"):
        soup([runs[0], deeper], tmp_path / "soup")
    set_fields(config, {"strategy": "truncated(2)", "data.image_size": 16})
    smaller = train(config, tmp_path / "smaller", datasets).workdir
    with pytest.raises(UserError, match="data.image_size is 16 there, 32 here"):
        soup([runs[0], smaller], tmp_path / "soup")
    with pytest.raises(UserError, match="not the folder of a finished run"):
        soup([runs[0], tmp_path / "nothing"], tmp_path / "soup")
