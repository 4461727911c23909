"""`runs` on folders in every state, and the next commands that others say."""

import json
import shlex

import pytest

from ttl_jax.cli import COMMANDS, main
from ttl_jax.commands import printing
from ttl_jax.commands.arguments import config_and_workdir
from ttl_jax.compare.config import CompareConfig
from ttl_jax.config import default_config
from ttl_jax.report.read import dataset_name
from ttl_jax.system.lock import held, is_held


def listed(capsys, folder):
    assert main(["ttl_jax", "runs", str(folder), "--json"]) == 0
    return {row["folder"].removeprefix(f"{folder}/"): row for row in json.loads(capsys.readouterr().out)}


def begun(path):
    """Gives a made run the config of a real one."""
    about = json.loads((path / "config.json").read_text())
    whole = default_config().to_dict()
    for section, values in about["config"].items():
        whole[section] = whole[section] | values if isinstance(values, dict) else values
    (path / "config.json").write_text(json.dumps(about | {"config": whole}))


def test_every_training_has_its_score_and_its_state(run, tmp_path, capsys):
    done, stopped, busy, old = (
        run(f"deep/{name}", finished=name == "done") for name in ("done", "stopped", "busy", "old")
    )
    result = json.loads((done / "result.json").read_text())
    result["intervals"] = {"test": {"auroc": [0.81, 0.97]}}
    (done / "result.json").write_text(json.dumps(result))
    for path in (stopped, busy, old):
        begun(path)
    about = json.loads((old / "config.json").read_text())
    about["config"]["strategy"] = "auto_rgn"  # which was another one before there was bn_momentum
    del about["config"]["model"]["bn_momentum"]
    (old / "config.json").write_text(json.dumps(about))
    with held(busy / "owner.json", wait=False):
        assert is_held(busy / "owner.json") and not is_held(done / "owner.json")
        found = listed(capsys, tmp_path)
    assert set(found) == {"deep/done", "deep/stopped", "deep/busy", "deep/old"}
    row = found["deep/done"]
    assert (row["data"], row["strategy"], row["network"]) == ("phantom/xray", "full", "resnet50")
    assert (row["score"], row["low"], row["high"]) == (result["test"]["auroc"], 0.81, 0.97)
    assert row["state"] == "finished" and found["deep/stopped"]["state"] == "interrupted at step 80"
    assert found["deep/busy"]["state"] == "running, step 80"
    assert found["deep/old"]["state"].startswith("refused at step 80: ")
    assert "that an earlier version of ttl_jax began" in found["deep/old"]["state"]
    assert main(["ttl_jax", "runs", str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"auroc {row['score']:.3f} [0.810, 0.970]" in shown and "kind training; " in shown


def test_searches_and_comparisons_are_one_row_each(run, tmp_path, capsys):
    run("search/trials/12_0")
    run("search/trials/14_0", finished=False)
    (tmp_path / "search" / "config.json").write_bytes(
        (tmp_path / "search" / "trials" / "12_0" / "config.json").read_bytes()
    )
    assert listed(capsys, tmp_path)["search"]["state"] == "interrupted: 2 trials begun"
    record = {"select": "auroc", "strategy": "truncated(12)", "model": "resnet50", "dataset": "x",
              "test": {"auroc": 0.9}}  # fmt: skip
    (tmp_path / "search" / "search.json").write_text(json.dumps(record))
    run("both/cells/phantom-mri/resnet50/full/lr0.001-seed0")
    run("both/cells/phantom-mri/resnet50/lp_ft/lr0.001-seed0", finished=False)
    found = listed(capsys, tmp_path)
    assert set(found) == {"search", "both"}
    row = found["search"]
    assert (row["strategy"], row["score"], row["state"]) == ("truncated(12)", 0.9, "finished: 2 trials")
    assert found["both"]["strategy"] == "full, lp_ft" and found["both"]["data"] == "phantom-mri"
    assert found["both"]["state"] == "interrupted: 1 cells done"
    with held(tmp_path / "both" / "lock", wait=False):
        assert listed(capsys, tmp_path)["both"]["state"] == "running: 1 cells done"


def test_no_runs_and_no_folder_are_said(tmp_path, capsys):
    assert main(["ttl_jax", "runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"there is no training, search or comparison in {tmp_path}\n"
    assert main(["ttl_jax", "runs", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"name": "npz", "path": "../shared/medmnist/pneumoniamnist.npz"}, "pneumoniamnist"),
        ({"name": "csv", "path": "/data/ham10000/metadata.csv"}, "ham10000"),
        ({"name": "npz", "path": "breastmnist.npz", "resplit": True}, "breastmnist, split anew"),
        ({"name": "folder", "path": "/data/xrays/"}, "xrays"),
        ({"name": "folder", "path": "gs://bucket/skin/train"}, "skin"),
        ({"name": "phantom/mri", "path": ""}, "phantom/mri"),
        ({"name": "npz:breast.npz"}, "breast"),
        ({"name": "csv", "path": "data.csv"}, "csv"),
        ({"name": "my_sources.py:by_name", "path": "images"}, "my_sources.py:by_name"),
    ],
)
def test_a_data_set_has_the_name_that_people_use(data, name):
    assert dataset_name(data) == name


def test_the_next_command_is_one_that_can_be_typed():
    words = ["--config=train:dataset=ham10000,data_dir=/d,model=resnet18,strategy=truncated(3)",
             "--workdir", "runs/skin", "--config.data.image_size=32", "--fresh"]  # fmt: skip
    said = printing.compare_with(words, "runs/skin", ("truncated(3)", "full", "full"))
    program, command, *rest = shlex.split(said.partition(": ")[2])
    assert program == "ttl-jax" and command in COMMANDS
    config, workdir = config_and_workdir(rest, CompareConfig)
    assert workdir == "runs/skin-compare" and config.compare.strategies == ("truncated(3)", "full")
    assert config.compare.datasets == ("ham10000",) and config.compare.models == ("resnet18",)
    assert config.compare.data_dir == "/d" and config.data.image_size == 32


def test_an_open_comparison_asks_for_the_seeds_that_it_needs():
    def said(*needed):
        differences = [{"needed_seeds": count} for count in needed]
        return printing.more_seeds(
            {"statistics": {"differences": differences}, "protocol": {"seeds": [0, 1, 2]}}
        )

    assert '--config.compare.seeds="(0, 1, 2, 3, 4)"' in said(None, 5)
    assert "ttl-jax runs" in said(None)
    assert '"(0, 1, 2, 3, 4)"; what is done is not done again (1 of 2 differences would take 462' in said(
        462, 5
    )
    assert said(462, None).startswith("1 of 2 differences would take 462 seeds or more: other patients")
