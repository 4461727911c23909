"""The command line as a user meets it: exit statuses, sentences, lists."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ttl_jax.cli import main

ROOT = Path(__file__).parent.parent
TRAIN = f"--config={ROOT}/configs/train.py"
SEARCH = f"--config={ROOT}/configs/search.py"


def run(capsys, *words):
    status = main(["ttl_jax", *words])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trian"], "there is no command 'trian' (did you mean 'train'?)"),
        (["train", "--workdir=x"], "--config=NAME is missing, as in --config=train; NAME is one of compare"),
        (["train", TRAIN], "--workdir=DIR is missing"),
        (["train", TRAIN, "--workdir=x", "--config.optimiser.lr=1"],
         "'optimiser.lr' does not exist (did you mean 'optimizer.lr'"),
        (["train", TRAIN, "--workdir=x", "--config.lr=1"], "(did you mean 'optimizer.lr'?)"),
        (["train", TRAIN, "--workdir=x", "--config.image_size"], "(did you mean 'data.image_size'?)"),
        (["train", TRAIN, "--workdir=x", "--config.optimizer.lr=fast"],
         "--config.optimizer.lr=fast is not of the type of this field's default"),
        (["train", TRAIN, "--workdir=x", "--config.data.batch_size=2.5"], "data.batch_size=2.5 is not of"),
        (["train", TRAIN, "--workdir=x", "--config.optimizer.lr=-1"], "optimizer.lr=-1.0 must be above 0"),
        (["compare", TRAIN, "--workdir=x"], "has no `compare` part; start from --config=compare"),
        (["train", TRAIN, "--workdir=x", "--config.seed"], "has no value"),
        (["train", f"{TRAIN}:datset=x", "--workdir=x"], "'datset' does not exist (did you mean 'dataset'?)"),
        (["train", f"{TRAIN}:dataset=phantom/skin", "--workdir=x"],
         "there is no data set preset 'phantom/skin'"),
        (["train", "--config=nowhere.py", "--workdir=x"], "--config=nowhere.py: there is no such file"),
        (["train", "--config=trian", "--workdir=x"], "nor a preset of that name (did you mean 'train'?)"),
        (["train", "--config=configs/train.py", "--workdir=x"], "(did you mean 'train'?)"),
        (["search"], "--config=NAME is missing, as in --config=search"),
        (["quickstart", "--epochs=3"], "unrecognized arguments: --epochs=3"),
        (["train", TRAIN, "--workdir=x", "extra"], "'extra' is not understood"),
        (["train", TRAIN, "--workdir=x", "--lr=3"], "lr"),
        (["report"], "the following arguments are required: folders"),
        (["report", "nowhere"], "is not a work folder"),
        (["models", "--jsn"], "takes --json only"),
        (["search", TRAIN, "--workdir=x"], "has no `search` part; start from --config=search"),
        (["search", SEARCH], "--workdir=DIR is missing"),
        (["search", f"{SEARCH}:kind=cut", "--workdir=x"], "config search.kind='cut'"),
        (["search", f"{SEARCH}:method=two-stage", "--workdir=x", "--preview"], "did you mean 'two_stage'"),
        (["bench", "cpus"], "takes the name of a benchmark (did you mean 'cpu'?)"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_status_2(capsys, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *words)
    assert status == 2
    assert sentence in err and "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command", ["train", "search", "analyze", "report", "models", "strategies", "weights", "datasets"]
)
def test_help_shows_an_example(capsys, command):
    status, out, _ = run(capsys, command, "--help")
    assert status == 0 and "example" in out and f"python -m ttl_jax {command}" in out


def test_the_commands_are_known_before_jax_is_imported():
    program = "import sys, ttl_jax.cli; print({'jax', 'ml_collections', 'numpy'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_lists_are_tables_or_json(capsys):
    status, out, _ = run(capsys, "strategies", "--json")
    assert status == 0
    assert {"full", "linear_probe"} <= {row["strategy"].partition("(")[0] for row in json.loads(out)}
    status, out, _ = run(capsys, "datasets")
    assert status == 0 and "ham10000" in out and "CC BY-NC 4.0" in out
    status, out, _ = run(capsys, "models", "--json")
    sizes = {row["model"]: row["parameters (1000 classes)"] for row in json.loads(out)}
    assert sizes["resnet50"] == 25_557_032
    status, out, _ = run(capsys, "weights", "--json")
    here = {row["model"]: row["here"] for row in json.loads(out)}
    assert here["efficientnet_lite0"] == "yes"


def test_train_prints_a_table_and_the_report(capsys, tmp_path):
    words = ["train", f"{TRAIN}:dataset=phantom/radiograph,strategy=linear_probe",
             f"--workdir={tmp_path}/run", "--config.data.phantom_patients=20",
             "--config.data.image_size=32", "--config.total_steps=3"]  # fmt: skip
    status, out, err = run(capsys, *words)
    assert status == 0, err
    assert "linear_probe" in out and "still in 18" in out
    assert f"report: {tmp_path}/run/report.html" in out
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    again, out, _ = run(capsys, *words)
    assert again == 0 and "this run is finished" in out
