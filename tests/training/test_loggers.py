"""A run's figures in every logger, read back from the files that it leaves."""

from __future__ import annotations

import csv
import json
import struct
import sys
import time
from types import SimpleNamespace

import pytest

from ttl_jax.errors import UserError
from ttl_jax.training.records import loggers
from ttl_jax.training.records.event_log import EventLog
from ttl_jax.training.records.loggers import wandb

TRAIN = {"step": 2, "epoch": 0.5, "phase": "all", "loss": 0.75, "lr": 0.125}
VAL = {"split": "val", "step": 2, "epoch": 0.5, "loss": 0.5, "auroc": None, "absent": ["x"]}
LATER = {"step": 4, "epoch": 1.0, "phase": "all", "loss": 0.25, "lr": 0.0625}
RESULT = {
    "val": {"auroc": 0.9, "per_class": {}}, "test": {"auroc": 0.875, "per_class": {}}, "steps": 4,
    "best_step": 2, "seconds": 1.5, "params": 10, "trainable_params": 4, "flops_per_step": 8.0,
}  # fmt: skip


def logged(name, folder, events, resume=0, result=None):
    with loggers.opened((name,), folder, {"seed": 0, "data": {"name": "phantom/mri"}}) as places:
        log = EventLog(folder / "metrics.jsonl", loggers=places)
        log.begin(4, resume)
        for event in events:
            log.event(**event)
        for event in loggers.result_events(result) if result else ():
            places[0].event(event)


def interrupted(name, folder):
    """A run that is killed after step 4 and goes on from step 2."""
    logged(name, folder, [TRAIN, VAL, {**LATER, "loss": 99.0}])
    logged(name, folder, [LATER], resume=2, result=RESULT)


def test_csv_has_a_row_an_event_once(tmp_path):
    interrupted("csv", tmp_path)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [(row["step"], row["split"], row["loss"], row["auroc"]) for row in rows] == [
        ("2", "train", "0.75", ""), ("2", "val", "0.5", ""), ("4", "train", "0.25", ""),
        ("4", "best_val", "", "0.9"), ("4", "best_test", "", "0.875"), ("4", "cost", "", ""),
    ]  # fmt: skip
    assert rows[-1]["seconds"] == "1.5" and rows[0]["lr"] == "0.125"


def scalars_and_restarts(folder):
    """Read as the format is defined: length, its checksum, an Event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    scalars, restarts = {}, []
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (size,) = struct.unpack("<Q", data[place : place + 8])
            event = Event.FromString(data[place + 12 : place + 12 + size])
            place += size + 16
            if event.session_log.status:
                restarts.append(event.step)
            for value in event.summary.value:
                scalars[value.tag, event.step] = value.simple_value
    return scalars, restarts


@pytest.mark.extras
def test_tensorboard_events_hold_the_figures_and_where_it_went_on(tmp_path):
    pytest.importorskip("tensorboardX")
    interrupted("tensorboard", tmp_path)
    scalars, restarts = scalars_and_restarts(tmp_path / "tensorboard")
    assert scalars["train/loss", 2] == 0.75 and scalars["train/loss", 4] == 0.25
    assert scalars["val/loss", 2] == 0.5 and scalars["best_test/auroc", 4] == 0.875
    assert ("val/auroc", 2) not in scalars and scalars["cost/seconds", 4] == 1.5
    assert restarts == [3]


@pytest.mark.extras
def test_mlflow_keeps_one_run_in_a_file_store(tmp_path, monkeypatch):
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    interrupted("mlflow", tmp_path)
    client = tracking.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("ttl_jax")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["best_test/auroc"] == 0.875 and run.info.status == "FINISHED"
    assert run.data.params["data.name"] == "phantom/mri"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(each.step, each.value) for each in history] == [(2, 0.75), (4, 99.0), (4, 0.25)]


@pytest.mark.extras
def test_wandb_works_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    logged("wandb", tmp_path, [TRAIN, VAL, LATER], result=RESULT)
    (place,) = (tmp_path / "wandb").glob("offline-run-*")
    name = (tmp_path / "wandb" / "id").read_text()
    (record,) = place.glob(f"run-{name}.wandb")
    tags = (b"train/loss", b"best_test/auroc", b"cost/seconds")
    until = time.monotonic() + 120  # wandb's own process ends the file, after finish() has returned
    while not all(tag in record.read_bytes() for tag in tags):
        assert time.monotonic() < until, record.read_bytes()
        time.sleep(0.05)


@pytest.mark.parametrize(("mode", "resume"), [(None, None), ("offline", None), ("online", "allow")])
def test_wandb_takes_a_run_up_again_where_it_is_online(tmp_path, monkeypatch, mode, resume):
    calls = []
    stand_in = SimpleNamespace(Settings=dict, init=lambda **about: calls.append(about))
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    for name in ("WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    if mode is not None:
        monkeypatch.setenv("WANDB_MODE", mode)
    for _ in range(2):
        wandb.make(tmp_path, {"seed": 0}).begin(0)
    first, again = calls
    assert first == again and first["id"] == (tmp_path / "wandb" / "id").read_text()
    assert (first["mode"], first["resume"]) == (mode or "offline", resume)
    assert (first["project"], first["name"], first["config"]) == ("ttl_jax", tmp_path.name, {"seed": 0})


def test_nothing_is_left_where_nothing_was_logged(tmp_path):
    with loggers.opened(tuple(loggers.NEEDS), tmp_path, {}):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    loggers.check(("csv",))
    monkeypatch.setitem(loggers.NEEDS, "wandb", "no_such_package")
    with pytest.raises(UserError, match=r"pip install 'ttl-jax\[wandb\]'"):
        loggers.check(("csv", "wandb"))
    with pytest.raises(UserError, match="'tensorbord'.*tensorboard"):
        loggers.check(("tensorbord",))


def test_a_torn_line_is_no_row(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps(TRAIN) + '\n{"step": 3, "lo')
    logged("csv", tmp_path, [LATER], resume=2)
    assert [row["step"] for row in csv.DictReader((tmp_path / "metrics.csv").open())] == ["2", "4"]
