"""Real comparisons in real processes: killed, started again, on several engines."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from ttl_jax.cli import main
from ttl_jax.compare import FailedCellsError, compare
from ttl_jax.compare.config import check
from ttl_jax.compare.worker import CellTask
from ttl_jax.config import set_fields
from ttl_jax.engines.local import LocalEngine, _shares
from ttl_jax.engines.task import Report
from ttl_jax.errors import UserError
from ttl_jax.system.lock import HeldError, held

ROOT = Path(__file__).parents[2]
SMALL = [
    "--config.compare.models=('resnet18',)", "--config.model.weights=none",
    "--config.compare.strategies=('truncated(1)+linear_probe',)", "--config.compare.seeds=(0, 1)",
    "--config.compare.lrs=(1e-3, 1e-2)", "--config.data.image_size=16", "--config.total_steps=2",
    "--config.data.phantom_patients=24", "--config.data.phantom_images_per_patient=1",
]  # fmt: skip


def words(workdir):
    return ["ttl_jax", "compare", f"--config={ROOT}/configs/compare.py", f"--workdir={workdir}", *SMALL]


def events(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_killed_and_started_again_it_repeats_nothing(tmp_path, capsys):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *words(tmp_path)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    seen = []
    for line in first.stdout:
        seen += events(line)
        if seen and seen[-1]["event"] == "started" and len(seen) > 2:
            break  # one cell is done, the next is under way
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert len(list(tmp_path.glob("cells/**/result.json"))) == 1
    assert main(words(tmp_path)) == 0
    said = capsys.readouterr().out
    begun = [(event["lr"], event["seed"], event["final"]) for event in events(said)
             if event["event"] == "started"]  # fmt: skip
    finished = seen[1]
    assert (finished["event"], finished["final"]) == ("done", False)
    assert (finished["lr"], finished["seed"], False) not in begun
    assert len(begun) == len(set(begun)) == 3
    found = json.loads((tmp_path / "compare.json").read_text())
    (setting,) = found["settings"]
    tried = {entry["lr"]: entry["val"] for entry in setting["tuning"]}
    assert setting["lr"] == min(tried, key=lambda lr: (-tried[lr], lr))
    assert [cell["seed"] for cell in setting["cells"]] == [0, 1]
    values = [cell["test"]["auroc"] for cell in setting["cells"]]
    assert setting["test"]["auroc"]["mean"] == pytest.approx(sum(values) / 2)
    # the rates that lost never saw the test split
    results = {
        path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("cells/**/result.json")
    }
    assert {name for name, result in results.items() if "test" in result} == {
        f"lr{setting['lr']:g}-seed{seed}" for seed in (0, 1)
    }
    assert (tmp_path / "report.html").stat().st_size > 10_000 and "Validation prefers" in said
    assert (tmp_path / "figures").is_dir() and f"wrote {tmp_path / 'figures'}" in said
    assert main(words(tmp_path)) == 0
    assert events(capsys.readouterr().out) == []


def test_a_process_that_dies_is_told_of_and_replaced(tmp_path):
    engine = LocalEngine(1)
    try:
        engine.submit(CellTask(str(tmp_path / "a"), {}))
        pid = engine._workers[0]._process.pid
        os.kill(pid, signal.SIGKILL)
        (report,) = wait(engine)
        assert (report.folder, report.status) == (str(tmp_path / "a"), "lost")
        assert "signal 9, perhaps for want of memory" in report.message
        engine.submit(CellTask(str(tmp_path / "b"), {"data": {}}))
        (report,) = wait(engine)
        assert report.status == "failed" and "Error" in report.message
        assert "Traceback" in (tmp_path / "b" / "log.txt").read_text()
    finally:
        engine.close()


def test_a_process_is_replaced_before_it_has_grown_large_but_not_within_a_setting(tmp_path, monkeypatch):
    monkeypatch.setattr("ttl_jax.engines.local.LIFE", 2)
    engine, seen = LocalEngine(1), []
    try:
        for name in ("one/a", "one/b", "one/c", "two/a"):
            engine.submit(CellTask(str(tmp_path / name), {"data": {}}))
            seen.append(engine._workers[0]._process.pid)
            wait(engine)
    finally:
        engine.close()
    assert seen[0] == seen[1] == seen[2] != seen[3]


def test_a_cell_goes_to_the_process_that_has_its_settings_programs(tmp_path):
    engine = LocalEngine(2)
    try:
        for name in ("one/a", "two/a"):
            engine.submit(CellTask(str(tmp_path / name), {"data": {}}))
        while any(worker.task for worker in engine._workers.values()):
            wait(engine)
        engine.submit(CellTask(str(tmp_path / "two/b"), {"data": {}}))
        assert [worker.task is not None for worker in engine._workers.values()] == [False, True]
        wait(engine)
    finally:
        engine.close()


def wait(engine):
    found, until = [], time.monotonic() + 60
    while not found and time.monotonic() < until:
        found = engine.wait(1.0)
    return found


class Scripted:
    """An engine whose cells end as told."""

    def __init__(self, statuses):
        self.statuses, self.given = statuses, []

    def submit(self, task):
        self.given.append(task)

    def wait(self, seconds):
        return [Report(self.given[-1].folder, self.statuses.pop(0), "it went wrong", 2.0)]

    def close(self, seconds=0.0):
        self.statuses = None


def test_a_lost_process_is_started_again_and_a_failure_is_not(tmp_path, config, monkeypatch):
    engine = Scripted(["lost", "failed", "lost", "lost"])
    monkeypatch.setattr("ttl_jax.engines.start", lambda name, workers, workdir: engine)
    with pytest.raises(FailedCellsError, match="2 cells failed.*it went wrong"):
        compare(config, tmp_path)
    assert [Path(task.folder).name for task in engine.given] == ["lr0.001-seed0"] * 2 + ["lr0.01-seed0"] * 2
    assert engine.statuses is None
    (setting,) = json.loads((tmp_path / "compare.json").read_text())["settings"]
    assert "it went wrong" in setting["note"] and setting["cells"] == []


def test_other_fields_in_the_same_folder_are_refused_before_anything_runs(tmp_path, config, finish):
    from ttl_jax.compare import cells

    (setting,) = cells.settings(config)
    finish(cells.tuning_cell(config, setting, 1e-3))
    config.data.batch_size = 7
    with pytest.raises(UserError, match="data.batch_size: 32 -> 7"):
        compare(config, tmp_path)


def test_a_second_comparison_in_the_same_folder_is_refused(tmp_path, config):
    with (
        held(tmp_path / "lock", wait=False),
        pytest.raises(HeldError, match=f"{tmp_path} is in use by process"),
    ):
        compare(config, tmp_path)


def test_workers_share_the_cores():
    cores = os.sched_getaffinity(0)
    assert _shares(1) == [frozenset()]
    if len(cores) >= 2:
        two = _shares(2)
        assert two[0] | two[1] == cores and not two[0] & two[1]
    assert _shares(len(cores) + 1) == [frozenset()] * (len(cores) + 1)


@pytest.mark.extras
def test_other_engines_run_the_same_cells(tmp_path, config):
    """A cell of every engine leaves the very numbers that a local one leaves."""
    others = [name for name in ("ray", "submitit") if find_spec(name)]
    if not others:
        pytest.skip("neither ray nor submitit is installed")
    config.compare.seeds, config.compare.lrs, config.report = (0,), (1e-3,), False
    config.compare.strategies = ("truncated(1)+linear_probe",)  # what is compiled in every process
    results = {}
    for name in ("local", *others):
        config.compare.engine = name
        found = compare(config, tmp_path / name)
        results[name] = found["settings"][0]["cells"][0]
    for name in others:
        for split in ("val", "test", "shifted"):
            assert results["local"][split] == results[name][split]


def test_a_data_set_that_is_not_there_is_refused_before_any_cell(tmp_path, capsys):
    words = ["ttl_jax", "compare", "--config=davila", f"--workdir={tmp_path / 'runs'}"]
    assert main([*words, "--config.compare.datasets=('kvasir',)", "--config.compare.data_dir=/nowhere"]) == 2
    said = capsys.readouterr().err
    assert "data set kvasir" in said and "is missing" in said
    assert not (tmp_path / "runs").exists()


def test_weights_that_are_not_there_are_refused_before_any_cell(tmp_path, config, monkeypatch):
    monkeypatch.setattr("ttl_jax.engines.start", lambda name, workers, workdir: pytest.fail("a cell began"))
    config.model.weights = str(tmp_path / "no.safetensors")
    with pytest.raises(UserError, match="model.weights: .*no.safetensors does not exist"):
        compare(config, tmp_path / "runs")
    config.model.weights = "imagenett"
    with pytest.raises(UserError, match="imagenet"):
        compare(config, tmp_path / "runs")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("total_steps", 0, None),
        ("select", "aurok", "select='aurok' .did you mean 'auroc'"),
        ("data.batch_size", 0, "data.batch_size=0 must be above 0"),
        ("compare.strategies", ("full", "truncated(99)"), "99"),
        ("compare.strategies", ("ful",), "no strategy 'ful' .did you mean 'full'"),
        ("model.head", "foo", "foo"),
        ("optimizer.name", "adamm", "optimizer.name='adamm' .did you mean 'adam'"),
        ("optimizer.b1", 1.5, "optimizer.b1=1.5 must be from 0 to below 1"),
        ("optimizer.weight_decay", -1.0, "optimizer.weight_decay=-1.0 must be 0 or above"),
        ("schedule.name", "cosin", "schedule.name='cosin' .did you mean 'cosine'"),
        ("schedule.factor", 2.0, "schedule.factor=2.0 must be between 0 and 1"),
        ("data.mix", "mixup", "mixup"),
        ("compare.rope", -0.01, "compare.rope=-0.01 must be 0 or above"),
        ("compare.retries", -1, "compare.retries=-1 must be 0 or above"),
        ("loggers", ("wand",), "loggers: 'wand' .did you mean 'wandb'"),
    ],
)
def test_what_would_fail_in_every_cell_is_refused_in_a_sentence(config, field, value, said):
    set_fields(config, {field: value})
    if said is None:
        check(config)
    else:
        with pytest.raises(UserError, match=said):
            check(config)
