"""docs/own.md: its blocks run as they stand, from a folder that is not the checkout."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ttl_jax.analysis.methods_table import table
from ttl_jax.cli import main
from ttl_jax.compare import cells
from ttl_jax.compare import default_config as comparison
from ttl_jax.compare.comparison import _task
from ttl_jax.config import default_config, set_fields
from ttl_jax.engines.local import LocalEngine
from ttl_jax.errors import UserError
from ttl_jax.search.config import search_config
from ttl_jax.search.subject import read
from ttl_jax.strategies import Phase, Strategy
from ttl_jax.training.build import load_run
from ttl_jax.training.records import provenance

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "docs" / "own.md").read_text(), re.S | re.M)
FILES = {found[1]: text for kind, text in BLOCKS if (found := re.match(r"# (\w+\.py)", text))}
(SCRIPT,) = [text for kind, text in BLOCKS if kind == "python" and text not in FILES.values()]
(COMMAND,) = [text for kind, text in BLOCKS if kind == "sh"]


def arguments(command):
    return shlex.split(command.replace("\\\n", " "))[2:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the page's files, and some images: bright ones of one label, dark ones of the other."""
    place = tmp_path_factory.mktemp("user")
    for name, text in FILES.items():
        (place / name).write_text(text)
    (place / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(60):
        label = ("benign", "malignant")[number % 2]
        pixels = rng.integers(0, 120 + 100 * (number % 2), (32, 32), np.uint8)
        Image.fromarray(pixels).save(place / "images" / f"p{number // 2}{label[0]}_{label}_{number}.png")
    return place


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def restored(here):
    """The page's files, put back after a test has edited them."""
    yield here
    for name, text in FILES.items():
        (here / name).write_text(text)


def test_each_example_takes_at_most_twenty_lines():
    assert sorted(FILES) == [
        f"my_{what}.py" for what in ("losses", "metrics", "models", "sources", "strategies")
    ]
    assert all(len(text.splitlines()) <= 20 for text in FILES.values())


def test_the_command_trains_with_all_of_them(here):
    assert main(arguments(COMMAND)) == 0
    found = json.loads((here / "runs/own/result.json").read_text())
    assert found["strategy"] == "my_strategies.py:mine + l2_sp" and found["model"] == "my_models.py:small"
    assert "worst_recall" in found["test"] and found["dataset"] == "my_sources.py:by_name"
    events = [json.loads(line) for line in (here / "runs/own/metrics.jsonl").read_text().splitlines()]
    assert {event["phase"] for event in events if "phase" in event} == {"probe", "mine+l2_sp"}
    own = json.loads((here / "runs/own/config.json").read_text())["config"]["own"]
    names = ["strategies.py:mine", "models.py:small", "sources.py:by_name", "losses.py:brier"]
    assert [entry.rpartition(" ")[0] for entry in own[:4]] == [f"my_{name}" for name in names]
    assert main(arguments(COMMAND)) == 0  # finished: shown, not trained
    assert load_run(here / "runs/own").config.own == tuple(own)
    assert "my_models.py:small" in table([here / "runs/own"])[0]["method"]


@pytest.mark.parametrize("name", FILES)
def test_an_edited_file_is_another_config(name, restored, capsys):
    if not (restored / "runs/own").exists():
        main(arguments(COMMAND))
    (restored / name).write_text(FILES[name] + "\n")
    capsys.readouterr()
    assert main(arguments(COMMAND)) == 2
    said = capsys.readouterr().err
    assert re.search(rf"holds a run of another config \({name}:\w+, which was edited: \w+ -> \w+\)", said)
    assert said.count("\n") == 1


def test_the_script_hands_a_value_over(here, capsys):
    scope = {"__name__": "__main__"}
    exec(SCRIPT, scope)
    assert scope["result"].metrics["strategy"] == "mine"
    kept = json.loads((here / "runs/value/config.json").read_text())["config"]
    assert kept["strategy"] == repr(scope["mine"])
    assert [entry.partition(" ")[0] for entry in kept["own"]][-1] == "brier"
    exec(SCRIPT, scope)
    assert "this run is finished" in capsys.readouterr().out
    other = SCRIPT.replace("strategy=mine", "strategy=mine + ttl_jax.strategies.get('l2_sp')")
    with pytest.raises(UserError, match=r"another config \(strategy: Strategy\(name='mine', .* -> Strategy"):
        exec(other, scope)


@pytest.mark.parametrize(
    "file, text, field, want",
    [
        ("my_losses.py", None, "loss.name=my_losses.py:brier", "there is no file my_losses.py"),
        ("my_losses.py", "def brier(:", "loss.name=my_losses.py:brier", "SyntaxError: invalid syntax"),
        ("my_losses.py", "brier = 3", "loss.name=my_losses.py:brier", "is no function (logits, target)"),
        (
            "my_models.py",
            "small = 3",
            "model.name=my_models.py:small",
            "is no function (name, dtype)",
        ),
        ("my_models.py", "def small(name, dtype): return 3", "model.name=my_models.py:small", "not a Plan"),
        ("my_models.py", "import nothing", "model.name=my_models.py:small", "line 1: ModuleNotFoundError"),
        (
            "my_sources.py",
            "by_name = 3",
            "data.name=my_sources.py:by_name",
            "is no function (config)",
        ),
        (
            "my_sources.py",
            "def by_name(c): pass",
            "data.name=my_sources.py:by_name",
            "returns NoneType",
        ),
        ("my_strategies.py", "mien = 3", "strategy=my_strategies.py:mine", "(did you mean 'mien'?)"),
        ("my_metrics.py", "worst_recall = 3", "select=my_metrics.py:worst_recall", "worst_recall"),
    ],
)
def test_a_bad_file_is_one_sentence_and_status_2(restored, capsys, file, text, field, want):
    if text is None:
        (restored / file).unlink()
    else:
        (restored / file).write_text(text)
    preset = "--config=train:model=my_models.py:small,weights=none"
    data = "--config.data.name=my_sources.py:by_name"
    words = [preset, "--workdir=runs/bad", "--config.data.path=images", data, f"--config.{field}"]
    assert main(["ttl_jax", "train", *words, "--config.data.image_size=32"]) == 2
    said = capsys.readouterr().err
    assert want in said and said.count("\n") == 1
    assert not (restored / "runs/bad").exists()


def compared(*strategies):
    config = comparison().unlock()
    fields = {
        "compare.strategies": strategies, "compare.models": ("my_models.py:small",), "compare.seeds": (0,),
        "compare.datasets": ("my_sources.py:by_name",), "compare.data_dir": "images", "compare.lrs": (1e-3,),
        "model.weights": "none", "loss.name": "my_losses.py:brier", "data.image_size": 32, "total_steps": 1,
    }  # fmt: skip
    set_fields(config, fields)
    return config


def test_a_worker_process_trains_a_cell_with_them(here):
    mine = Strategy("value", phases=(Phase(base_lr=0.5),))
    config = compared(f"my_strategies.py:slower(rate=0.3) + {mine!r}")
    (setting,) = cells.settings(config)
    (cell,) = cells.final_cells(config, setting, 1e-3)
    place = cells.folder(here / "compared", cell)
    engine = LocalEngine(1)
    try:
        engine.submit(_task(config, here / "compared", cell, ()))
        (report,) = engine.wait(300)
    finally:
        engine.close()
    assert report.status == "done", report
    assert place.parent.name == "my_strategies.py-slower-rate=0.3-+value"
    found = json.loads((place / "result.json").read_text())
    assert found["strategy"] == "my_strategies.py:slower(rate=0.3)+value"


def test_a_comparison_refuses_two_strategies_of_one_name(here):
    two = (repr(Strategy("mine", phases=(Phase(lr=lr),))) for lr in (0.5, 0.7))
    with pytest.raises(UserError, match="two strategies are called 'mine': give one of them another name"):
        cells.settings(compared(*two))


def test_a_file_that_is_edited_on_the_way_to_a_worker_is_refused(restored):
    config = default_config()
    set_fields(config, {"loss.name": "my_losses.py:brier"})
    made = provenance.settled(config)
    (restored / "my_losses.py").write_text(FILES["my_losses.py"] + "\n")
    with pytest.raises(UserError, match="my_losses.py:brier was edited while this was under way"):
        provenance.settled(made)


def test_a_search_adds_a_strategy_of_ones_own_to_each_cut(here):
    config = search_config()
    set_fields(config, {"model.name": "my_models.py:small", "strategy": "my_strategies.py:slower"})
    setting = read(config)
    assert [point.strategy for point in setting.points.values()] == [
        f"truncated({unit})+my_strategies.py:slower" for unit in (1, 2, 3)
    ]
    assert len(setting.run.own) == 2
