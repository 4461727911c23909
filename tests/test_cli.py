"""The command line as a user meets it: exit statuses, sentences, lists."""

import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import ttl_jax
from ttl_jax import models
from ttl_jax.cli import COMMANDS, main
from ttl_jax.errors import UserError

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
        (["quickstart", "--epochs=3"], "argument '--epochs=3' is not understood"),
        (["train", TRAIN, "--workdir=x", "extra"], "'extra' is not understood"),
        (["train", TRAIN, "--workdir=x", "--lr=3"], "(did you mean --config.optimizer.lr?)"),
        (["report"], "the following arguments are required: folders"),
        (["report", "nowhere"], "is not a work folder"),
        (["models", "--jsn"], "'--jsn' is not understood (did you mean '--json'?)"),
        (["models", "resnet5"], "there is no model 'resnet5' (did you mean 'resnet50'?)"),
        (["weights", "resnet5"], "there is no model 'resnet5' (did you mean 'resnet50'?)"),
        (["datasets", "ham1000"], "(did you mean 'ham10000'?)"),
        (["analyze", "costs"], "(did you mean 'cost'?)"),
        (["train", TRAIN, "--workdr=x"], "'--workdr=x' is not understood (did you mean '--workdir'?)"),
        (["train", TRAIN, "--workdir=x", "--fersh"], "(did you mean '--fresh'?)"),
        (["train", TRAIN, "--workdir=x", "--image_size=3"], "(did you mean --config.data.image_size?)"),
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


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_has_two_examples_and_a_line_for_each_flag(capsys, command):
    status, out, _ = run(capsys, command, "--help")
    text = COMMANDS[command].HELP
    assert status == 0 and out.startswith(text) and text.startswith(f"usage: ttl-jax {command}")
    assert len(re.findall(rf"^  ttl-jax {command}\b", text.partition("\nexamples:\n")[2], re.M)) >= 2
    assert max(map(len, text.splitlines())) <= 80
    source = Path(COMMANDS[command].__file__).read_text()
    flags = set(re.findall(r'add_argument\("(--\w+)"', source))
    for switches in re.findall(r"switches=\(([^)]*)\)", source):
        flags |= set(re.findall(r"--\w+", switches))
    flags |= {"--config", "--workdir"} if "config_and_workdir(" in source and command != "leaks" else set()
    explained = set(re.findall(r"^  (--[a-z_]+)", text, re.M))
    assert flags <= explained, flags - explained


def test_no_words_and_help_are_an_overview_and_a_version(capsys):
    status, out, _ = run(capsys)
    assert status == 0 and run(capsys, "--help")[1] == out and max(map(len, out.splitlines())) <= 80
    assert all(f"\n  {command} " in out for command in COMMANDS)
    status, out, _ = run(capsys, "--version")
    assert status == 0 and out.startswith(f"ttl-jax {ttl_jax.__version__} (jax ")
    assert run(capsys, "help", "models")[1] == COMMANDS["models"].HELP


@pytest.mark.parametrize(
    ("words", "hidden"),
    [
        (["models"], ()), (["models", "resnet18"], ()), (["strategies"], ()), (["bench"], ()),
        (["weights"], ("sha256 begins", "from")), (["datasets"], ("citation", "note")),
    ],
)  # fmt: skip
def test_lists_fit_a_terminal_of_80_columns_and_break_no_word(capsys, monkeypatch, words, hidden):
    rows = json.loads(run(capsys, *words, "--json")[1])
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = run(capsys, *words)
    assert status == 0 and max(map(len, out.rstrip().splitlines())) <= 110  # below a table
    printed = set(out.replace(",", "").split())
    for row in rows:
        for title, value in row.items():
            missing = set(str(value).replace(",", "").split()) - printed
            assert title in hidden or not missing, missing


def test_one_network_has_its_units_and_the_weights_that_fit(capsys):
    status, out, _ = run(capsys, "models", "resnet50", "--json")
    rows = json.loads(out)
    assert [row["name"] for row in rows] == [unit.name for unit in models.units("resnet50")]
    assert rows[-1]["output"] == "7 x 7 x 2048" and rows[0]["output"] == "56 x 56 x 64"
    assert rows[-1]["parameters up to it"] == 25_557_032 - 2048 * 1000 - 1000  # torchvision's, less its head
    status, out, err = run(capsys, "models", "resnet50", "--image-size=64")
    assert "2 x 2 x 2048" in out and "imagenet" in out and "truncated(8)" in out
    assert err == "note: --image-size is now written --image_size\n"


LISTS = [
    ["--help"], ["train", "--help"], ["models"], ["models", "resnet18"], ["strategies"], ["weights"],
    ["datasets"], ["bench"], ["runs", "."], ["strategies", "--json"], ["privacy", "."], ["analyze", "--help"],
]  # fmt: skip


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_a_pipe_that_is_closed_early_is_no_fault(monkeypatch, capsys, tmp_path, words):
    monkeypatch.chdir(tmp_path)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["ttl_jax", *words]) == 0
    assert capsys.readouterr().err == ""


def test_names_that_the_terminal_cannot_write_are_escaped(monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii", write_through=True))
    assert main(["ttl_jax", "datasets"]) == 0
    assert b"ham10000" in shown.getvalue() and shown.getvalue().isascii()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ValueError("RESOURCE_EXHAUSTED: Error writing x: [OS error 28: No space left on device]"),
            "runs/x cannot be used: there is no room left",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "runs/x cannot be used: there is no room left; free some",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/a/b"),
            "/a/b cannot be used: it may not be read or written",
        ),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "f/x"),
            "f/x cannot be used: a file stands where a folder",
        ),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "y" * 300),
            "the name is too long; name a shorter one",
        ),
        (
            OSError(errno.EIO, "Input/output error", "/d"),
            "/d cannot be used: Input/output error; check the disk",
        ),
    ],
)
def test_what_the_system_refuses_is_a_sentence_with_place_and_remedy(monkeypatch, capsys, error, said):
    def refused(arguments):
        raise error

    monkeypatch.setitem(COMMANDS, "train", SimpleNamespace(run=refused))
    status, _, told = run(capsys, "train", "--workdir", "runs/x")
    assert status == 2 and said in told and len(told.splitlines()) == 1 and len(told) < 400


def test_a_program_fault_is_still_a_traceback(monkeypatch):
    def broken(arguments):
        raise KeyError("x")

    monkeypatch.setitem(COMMANDS, "train", SimpleNamespace(run=broken))
    with pytest.raises(KeyError):
        main(["ttl_jax", "train"])


def test_what_was_typed_is_escaped_and_cut(capsys):
    for word in (
        "a" * 10**5,
        "\x1b[2J\x07",
        "two words " * 10**4,
        "\u202egnp.exe",
        "'" * 10**4,
        "it's " * 10**4,
    ):
        status, _, told = run(capsys, word)
        assert status == 2 and len(told) < 1600 and told.rstrip("\n").isprintable()
    assert "\\x1b[2J" in str(UserError("\x1b[2J"))


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
