from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from ttl_jax import report
from ttl_jax.report.read import read_runs
from ttl_jax.report.rows import settings_that_differ


def test_means_and_spreads_over_seeds(run):
    directories = [run(f"s{seed}", seed=seed, seconds=100.0 + seed) for seed in (3, 1, 7)]
    (row,) = report.rows(directories)
    results = [json.loads((each / "result.json").read_text())["test"] for each in directories]
    assert row.seeds == (1, 3, 7)
    for metric in ("auroc", "accuracy", "ece", "prevalence"):
        values = np.array([each[metric] for each in results])
        assert row.values[metric].mean == pytest.approx(values.mean())
        assert row.values[metric].sd == pytest.approx(values.std(ddof=1))
        assert row.values[metric].low is None
    assert row.costs["seconds"] == pytest.approx(np.mean([103, 101, 107]))


def test_a_setting_that_differs_makes_another_row_and_its_name(run):
    rows = report.rows([run("a", lr=1e-3), run("b", lr=1e-2)], intervals=False)
    assert [row.label for row in rows] == ["full · lr=0.001", "full · lr=0.01"]
    rows = report.rows([run("c"), run("d", model="densenet121", dataset="ham")], intervals=False)
    assert [row.label for row in rows] == [
        "full · resnet50 · phantom/xray", "full · densenet121 · ham",
    ]  # fmt: skip
    assert not any(row.chosen for row in rows)  # one setting a data set: nothing to choose


def test_the_same_seed_twice_is_no_second_sample(run, tmp_path):
    first = run("first")
    shutil.copytree(first, tmp_path / "copy")
    rows = report.rows([first, tmp_path / "copy"], intervals=False)
    assert [row.label for row in rows] == ["full · first", "full · copy"]
    assert all(row.values["auroc"].sd is None for row in rows)
    assert len(report.rows([first, first], intervals=False)) == 1


def test_seeds_without_a_result_are_told(run):
    (row,) = report.rows([run("a", seed=0), run("b", seed=1, finished=False)], intervals=False)
    assert row.values["auroc"].runs == 1 and row.values["auroc"].sd is None
    assert row.note == "1 of 2 runs have a result (seed 1: no result yet, at step 80)"


def test_a_loss_is_preferred_when_low(run):
    directories = [run("a", strategy="full"), run("b", strategy="lp_ft")]
    for directory, loss in zip(directories, (0.9, 0.3), strict=True):
        about = json.loads((directory / "config.json").read_text())
        about["config"]["select"] = "loss"
        (directory / "config.json").write_text(json.dumps(about))
        result = json.loads((directory / "result.json").read_text())
        result["val"]["loss"] = loss
        (directory / "result.json").write_text(json.dumps(result))
    assert [row.chosen for row in report.rows(directories, intervals=False)] == [False, True]


def test_fields_that_differ(run):
    runs = read_runs([run("a", lr=1e-3, seed=0), run("b", lr=1e-2, seed=1)])
    assert settings_that_differ(runs) == ("optimizer.lr",)


def test_fields_that_change_no_result_split_no_setting(run):
    places = [run(f"seed{seed}", seed=seed) for seed in range(3)]
    for field, place in zip(("cache_disk_gb", "save_share", "log_every_steps"), places, strict=True):
        about = json.loads((place / "config.json").read_text())
        about["config"][field] = 4.0
        (place / "config.json").write_text(json.dumps(about))
    (row,) = report.rows(places, intervals=False)
    assert row.seeds == (0, 1, 2) and row.label == "full"
