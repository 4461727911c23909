"""The search command's job on real trainings: folders, resume, one look at the test split."""

import json
import threading
from dataclasses import replace

import jax
import numpy as np
import pytest

from ttl_jax.errors import UserError
from ttl_jax.report.search_text import rows, sentence
from ttl_jax.search import trainings
from ttl_jax.search.config import search_config
from ttl_jax.search.search import search
from ttl_jax.search.subject import read, validated
from ttl_jax.system import host
from ttl_jax.system.preemption import Notice, Preempted
from ttl_jax.training import compile_ahead

DEFAULT = search_config().search.rungs


def run_files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("trials/*/metrics.jsonl")}


def test_a_search_trains_each_unit_once_and_looks_at_the_test_split_once(tmp_path, config, datasets):
    record = search(config, tmp_path, datasets)
    scores = {unit["unit"]: unit["score"] for unit in record["units"]}
    for unit, score in scores.items():
        result = json.loads((tmp_path / f"trials/unit{unit:02d}_seed0/result.json").read_text())
        assert result["val"]["auroc"] == score
        assert ("test" in result) == (unit == record["best"])
    assert record["best"] == max(sorted(scores), key=scores.get)
    assert record["cost"] == record["exhaustive_cost"] == 2
    assert sum(datasets["test"].images.reads) == 11
    winner = tmp_path / f"trials/unit{record['best']:02d}_seed0"
    assert record["test"]["auroc"] == json.loads((winner / "result.json").read_text())["test"]["auroc"]
    assert (winner / "predictions" / "test.npz").exists()
    assert json.loads((tmp_path / "search.json").read_text()) == record
    assert (tmp_path / "figures" / "search.png").stat().st_size > 5000
    assert len(rows(record)) == 2 and record["strategy"] in sentence(record)
    assert record["confidence"] is None and "no confidence can be named" in sentence(record)  # two trainings
    sure = sentence(record | {"confidence": 0.95})
    assert "no unit is better by more than 0.01, at 95% confidence" in sure
    (winner / "result.json").unlink()  # as a kill leaves it that comes while the winner is tested
    (tmp_path / "search.json").unlink()
    assert search(config, tmp_path, datasets)["test"]["auroc"] == record["test"]["auroc"]
    # MACs grow with the cut; prices are shares of the dearest candidate's
    macs = [unit["macs"] for unit in record["units"]]
    assert macs == sorted(macs) and record["units"][-1]["price"] == 1.0

    before, read_before = run_files(tmp_path), len(datasets["train"].images.reads)
    assert search(config, tmp_path, datasets) == record
    # another method in the same folder finds every trial done
    config.search.method = "two_stage"
    assert search(config, tmp_path, datasets)["best"] == record["best"]
    # so does a search by score less price, though what wins is another unit
    config.search.weight = 10.0
    cheap = search(config, tmp_path, datasets)
    assert cheap["best"] == 1 and cheap["score"] == scores[1]
    assert run_files(tmp_path) == before and len(datasets["train"].images.reads) == read_before


def test_a_search_whose_figure_is_undefined_goes_on_by_the_loss(tmp_path, config, datasets):
    labels = np.zeros_like(datasets["val"].labels)  # of one class: no AUROC
    record = search(config, tmp_path, {**datasets, "val": replace(datasets["val"], labels=labels)})
    losses = {}
    for unit in record["units"]:
        result = json.loads((tmp_path / f"trials/unit{unit['unit']:02d}_seed0/result.json").read_text())
        assert result["val"]["auroc"] is None and unit["score"] == -result["val"]["loss"]
        losses[unit["unit"]] = result["val"]["loss"]
    assert record["best"] == min(losses, key=losses.get)


def test_the_programs_of_the_next_trial_are_made_while_one_trains(tmp_path, config, datasets, monkeypatch):
    threads, plain = [], compile_ahead.compile_step

    def compile_step(*given):
        threads.append(threading.current_thread().name)
        return plain(*given)

    monkeypatch.setattr(compile_ahead, "compile_step", compile_step)
    foreseen = search(config, tmp_path / "foreseen", datasets)
    main = threading.current_thread().name
    assert threads == [main, host.COMPILING]
    monkeypatch.setattr(trainings, "foresee", lambda *given: None)
    alone = search(config, tmp_path / "alone", datasets)
    assert threads[2:] == [main, main]
    assert foreseen == alone


def test_halving_goes_on_from_where_a_trial_was_paused(tmp_path, config, datasets):
    config.search.method, config.search.allowance = "halving", 1.0
    config.search.rungs = (0.5, 1.0)
    record = search(config, tmp_path, datasets)
    budgets = [(trial["unit"], trial["budget"], trial["cost"]) for trial in record["trials"]]
    assert budgets[:2] == [(1, 0.5, 0.5), (2, 0.5, 0.5)] and len(budgets) == 3
    assert budgets[2][1:] == (1.0, 0.5) and budgets[2][0] == record["best"]
    stopped = tmp_path / f"trials/unit{3 - record['best']:02d}_seed0"
    lines = [json.loads(line) for line in (stopped / "metrics.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in lines) == 2 and not (stopped / "result.json").exists()
    half = {trial["unit"]: trial["score"] for trial in record["trials"] if trial["budget"] == 0.5}
    assert half[record["best"]] >= half[3 - record["best"]]


def test_the_bayesian_search_goes_on_from_its_pilot(tmp_path, config, datasets):
    config.search.method, config.search.pilot = "bayesian", 0.5
    record = search(config, tmp_path, datasets)
    done = [(trial["unit"], trial["budget"], trial["cost"]) for trial in record["trials"]]
    assert done[:2] == [(1, 0.5, 0.5), (2, 0.5, 0.5)] and sorted(done[2:]) == [(1, 1.0, 0.5), (2, 1.0, 0.5)]
    assert record["cost"] == 2 and record["reason"] == "every unit was tried"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kind", "cut", "search.kind='cut'"),
        ("method", "two-stage", "did you mean 'two_stage'"),
        ("price", "flops", "search.price='flops'"),
        ("units", "1-99", "is no candidate"),
        ("workers", 0, "search.workers=0 must be 1 or more"),
        ("seeds", 3, "is for method=halving"),
        ("pilot", 1.5, "search.pilot=1.5 must be above 0, up to 1"),
        ("rungs", (0.5, 1.5), "search.rungs=.* must be above 0, up to 1"),
        ("tolerance", 0.0, "search.tolerance=0.0 must be above 0"),
        ("confidence", 1.0, "search.confidence=1.0 must be between 0 and 1"),
        ("weight", -1.0, "search.weight=-1.0 must be 0 or above"),
    ],
)
def test_a_bad_field_is_refused_before_anything_is_written(tmp_path, config, datasets, field, value, message):
    config.search[field] = value
    with pytest.raises(UserError, match=message):
        search(config, tmp_path / "new", datasets)
    assert not (tmp_path / "new").exists()


def test_a_search_that_is_asked_to_stop_goes_on_where_it_was(tmp_path, config, datasets, capsys):
    with pytest.raises(Preempted, match="SIGTERM: saved at step 1"):
        search(config, tmp_path, datasets, notice=Notice("SIGTERM"))
    search(config, tmp_path, datasets)
    assert capsys.readouterr().out.count("resumed at step 1 ") == 1


def test_bad_halving_options_are_refused_before_the_data_is_read(tmp_path, config):
    config.search.method, config.data.path = "halving", "/nowhere"
    for field, value, message in (
        ("allowance", 2.0, "must be above 0, up to 1"),
        ("rungs", (0.5,), "must rise"),
    ):
        config.search[field], before = value, config.search[field]
        with pytest.raises(UserError, match=message):
            search(config, tmp_path / "new")
        config.search[field] = before


@pytest.mark.parametrize(
    ("every", "total", "rungs", "expected"),
    [
        (1.0, 27.0, DEFAULT, DEFAULT),
        (1.0, 18.0, DEFAULT, (1 / 18, 1 / 9, 1 / 3, 1.0)),
        (1.0, 9.0, DEFAULT, (1 / 9, 1 / 3, 1.0)),
        (1.0, 10.0, (1 / 9, 1 / 3, 1.0), (0.2, 0.4, 1.0)),
        (2.0, 6.0, (1 / 9, 1 / 3, 1.0), (1 / 3, 1.0)),  # the first two would pause at one validation
        (5.0, 6.0, (1 / 9, 1.0), (5 / 6, 1.0)),
        (1.0, 9.0, (0.5, 0.2), (5 / 9, 2 / 9)),  # refused later on
    ],
)
def test_a_rung_stands_where_the_training_is_validated(config, every, total, rungs, expected):
    config.total_steps, config.total_epochs, config.eval_every_epochs = 0, total, every
    assert validated(rungs, config) == pytest.approx(expected)


def test_trials_take_the_strategy_of_their_unit(config):
    config.search.kind, config.search.units = "lwft", ""
    setting = read(config)
    assert setting.points[9].strategy == "layerwise(9)" and setting.stages == (2,)
    assert not hasattr(setting.run, "search")


def test_features_of_frozen_units_are_computed_once_for_all_rungs(tmp_path, config, datasets, capsys):
    config.search.kind, config.search.units, config.search.method = "lwft", "8-9", "halving"
    config.search.stages, config.search.rungs, config.search.allowance = "9", (0.5, 1.0), 1.0
    found = search(config, tmp_path / "shared", datasets)
    assert len(found["trials"]) > 2
    printed = capsys.readouterr().out
    assert printed.count("computed once") == 2 * 2  # train and val of each unit
    assert not (tmp_path / "shared" / "features").exists()


def test_trials_run_in_worker_processes_as_they_do_here(tmp_path, config):
    config.data.name, config.data.phantom_patients, config.total_steps = "phantom/mri", 20, 2
    here = search(config, tmp_path / "here")
    config.search.workers = 2
    apart = search(config, tmp_path / "apart")
    assert apart["trials"] == here["trials"]
    # Each worker has its share of the cores: other last digits.
    mine, theirs = jax.tree.leaves(apart["test"]), jax.tree.leaves(here["test"])
    assert mine == [pytest.approx(value, rel=1e-5) for value in theirs]
