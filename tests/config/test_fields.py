"""A field is declared once: its explanation, default, range and choices reach the help, checks and files."""

import json
import pickle
import runpy
from dataclasses import fields, replace
from pathlib import Path

import pytest

from ttl_jax.cli import main
from ttl_jax.compare.config import CompareConfig
from ttl_jax.compare.config import default_config as compare_config
from ttl_jax.config import (
    DataConfig,
    RunConfig,
    default_config,
    replace_fields,
    run_config,
    set_fields,
    typed,
    unknown_field,
)
from ttl_jax.config.fields import Section, leaves, paths
from ttl_jax.errors import UserError
from ttl_jax.search.config import SearchConfig, search_config

KINDS = (RunConfig, SearchConfig, CompareConfig)
ROOT = Path(__file__).parent.parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.py"))


def kind_of(config):
    return CompareConfig if "compare" in config else SearchConfig if "search" in config else RunConfig


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_explained_in_words_that_name_its_choices(kind):
    for path, about, value in leaves(kind()):
        assert len(about.explanation.split()) >= 2, path
        assert all(choice in about.explanation for choice in about.choices), path
        assert not about.choices or value in about.choices
        numbers = value if isinstance(value, tuple) else (value,)
        assert not about.bounds or all(map(about.allows, numbers)), path


@pytest.mark.parametrize("kind", KINDS)
def test_sections_are_explained(kind):
    for item in fields(kind):
        if isinstance(item.default, Section):
            assert item.default.__doc__ and not item.default.__doc__.startswith(type(item.default).__name__)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_preset_comes_back_from_its_dataclass(path):
    config = runpy.run_path(str(path))["get_config"]()
    made = typed(kind_of(config), config)
    assert json.dumps(made.to_dict()) == json.dumps(config.to_dict())
    assert typed(type(made), made.to_dict()) == made == pickle.loads(pickle.dumps(made))
    run = run_config(config)  # its config.json
    assert run_config(json.loads(json.dumps(run.to_dict()))) == run


def test_a_part_of_a_comparison_or_search_is_a_run():
    for made in (compare_config(), search_config(), typed(SearchConfig, search_config())):
        assert run_config(made) == replace(
            RunConfig(), cache_disk_gb=4.0, report_images=made.report_images, training_features=False
        )


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("optimizer.lr", 0.0, "config optimizer.lr=0.0 must be above 0"),
        ("optimizer.lr", float("nan"), "config optimizer.lr=nan must be above 0"),
        ("optimizer.b1", 1.0, "config optimizer.b1=1.0 must be from 0 to below 1"),
        ("schedule.final", 1.5, "config schedule.final=1.5 must be from 0 to 1"),
        ("schedule.factor", 1.0, "config schedule.factor=1.0 must be between 0 and 1"),
        ("save_share", 0.0, "config save_share=0.0 must be above 0, up to 1"),
        ("data.folds", -1, "config data.folds=-1 must be 0 or above"),
        ("nan_skip", -1, "config nan_skip=-1 must be 0 or above"),
        ("data.resize", "squish", "config data.resize='squish' (did you mean 'squash'?)"),
        ("optimizer.name", "lion", "config optimizer.name='lion' (choose from: adam, adamw, sgd)"),
        ("compare.trials", 0, "config compare.trials=0 must be 1 or more"),
        ("compare.lrs", (1e-3, -1.0), "config compare.lrs=(0.001, -1.0) must be above 0"),
        ("compare.seeds", (0, 0.5), "config field 'compare.seeds' takes a value of type int, not 0.5"),
        ("seed", True, "config field 'seed' takes a value of type int, not True"),
        ("report", 1, "config field 'report' takes a value of type bool, not 1"),
        ("data.path", None, "config field 'data.path' takes a value of type str, not None"),
        ("data", 3, "config data is a section of fields, not 3"),
    ],
)
def test_a_value_out_of_range_is_refused_in_one_sentence(path, value, said):
    values = CompareConfig().to_dict()
    set_fields(values, {path: value})
    with pytest.raises(UserError) as refused:
        typed(CompareConfig, values)
    assert str(refused.value) == said


def test_numbers_and_lists_become_what_the_field_holds():
    made = typed(CompareConfig, {"total_epochs": 3, "compare": {"lrs": [1, 2e-3], "strategies": ["full"]}})
    assert (made.total_epochs, made.compare.lrs, made.compare.strategies) == (3.0, (1.0, 2e-3), ("full",))
    assert isinstance(made.total_epochs, float) and made.data == RunConfig().data


def test_a_field_that_nobody_reads_is_refused():
    config = default_config().unlock()
    config.data.image_sise = 3
    with pytest.raises(UserError, match=r"'data.image_sise' does not exist \(did you mean 'data.image_size'"):
        run_config(config)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("lr", ["optimizer.lr"]),
        ("image_size", ["data.image_size"]),
        ("data.lr", ["optimizer.lr"]),
        ("optimiser.lr", ["optimizer.lr"]),
        ("optimiser.name", ["optimizer.name"]),
        ("imagesize", ["data.image_size"]),
        ("totl_steps", ["total_steps"]),
        ("patience", ["early_stop.patience", "schedule.patience"]),
    ],
)
def test_a_mistyped_field_names_the_nearest(name, near):
    said = str(unknown_field(name, paths(default_config())))
    assert said == f"config field {name!r} does not exist (did you mean {' or '.join(map(repr, near))}?)"


def test_a_field_like_no_other_does_not_print_them_all():
    assert len(str(unknown_field("qqqq", paths(default_config())))) < 80


def test_a_section_that_nobody_reads_is_refused_in_a_section_alone():
    assert run_config({"mine": {"a": 1}}) == RunConfig()
    with pytest.raises(UserError, match="'data.mine' does not exist"):
        run_config({"data": {"mine": {"a": 1}}})


def test_fields_are_replaced_in_a_copy():
    config = RunConfig()
    made = replace_fields(config, {"data.image_size": 64, "seed": 3, "total_epochs": 2})
    assert (made.data.image_size, made.seed, made.total_epochs) == (64, 3, 2.0)
    assert config == RunConfig() and replace_fields(made, {"data.image_size": 224, "seed": 0,
                                                          "total_epochs": 10}) == config  # fmt: skip
    with pytest.raises(UserError, match="did you mean 'data.image_size'"):
        replace_fields(config, {"image_size": 64})
    with pytest.raises(UserError, match="data.image_size=0 must be above 0"):
        replace_fields(config, {"data.image_size": 0})


def test_a_comparisons_grids_are_its_own():
    one, other = compare_config(), CompareConfig()
    set_fields(one, {"compare.grids.l2_sp.alpha": (0.5,)})
    assert typed(CompareConfig, one).compare.grids["l2_sp"]["alpha"] == (0.5,)
    assert other == CompareConfig() and len(other.compare.grids["l2_sp"]["alpha"]) > 1


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["train", "--help"], {"data.image_size": "224", "optimizer.lr": "0.001", "cache_disk_gb": "0.0"}),
        (["train", "--help", "--config=configs/train.py:dataset=ham10000,strategy=bitfit"],
         {"data.image_size": "64", "strategy": "bitfit", "data.name": "csv"}),
        (["train", "--config=configs/train.py", "--config.optimizer.lr=0.5", "--help"],
         {"optimizer.lr": "0.5"}),
        (["search", "--help", "--config=configs/ttl.py:recipe=quick"],
         {"search.kind": "all", "search.seeds": "3", "optimizer.lr": "0.003", "cache_disk_gb": "4.0"}),
        (["compare", "--help", "--config=configs/strategies_study.py"],
         {"compare.extend": "1", "compare.keep": "none", "total_epochs": "6.0"}),
        (["compare", "--help"],
         {"report_images": "False", "compare.grids.l2_sp.alpha": "(0.001, 0.01, 0.1)"}),
    ],
)  # fmt: skip
def test_help_explains_every_field_with_the_default_of_its_preset(capsys, monkeypatch, words, shown):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["ttl_jax", *words]) == 0
    out = capsys.readouterr().out
    lines, kind = out.splitlines(), dict(zip(("train", "search", "compare"), KINDS, strict=True))[words[0]]
    for path, about, _ in leaves(kind()):
        if path != "compare.grids":
            assert [line for line in lines if line.startswith(f"  --config.{path}=")], path
        assert about.explanation in " ".join(out.split()), path
    for path, value in shown.items():
        assert f"  --config.{path}={value}" in lines
    assert all(
        len(line) <= 80 for line in out.partition("fields, with")[2].splitlines() if line[:4] == "    "
    )


def test_prepare_explains_its_options_as_the_config_does(capsys):
    assert main(["ttl_jax", "prepare", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for path, about, value in leaves(DataConfig()):
        assert (f"--{path}={value} {about.explanation}".replace("=  ", "= ") in out) == (
            path in ("name", "on_error", "root", "image", "label", "labels", "group", "split", "window",
                     "slices", "spacing", "plane")
        ), path  # fmt: skip
