"""Strengths tuned besides the rate: the space, its trials, their cells, and what compare.json says."""

import inspect
import json

import numpy as np
import pytest

from ttl_jax import registry, strategies
from ttl_jax.compare import cells, tune
from ttl_jax.compare.cells import Setting
from ttl_jax.compare.comparison import _tuner
from ttl_jax.compare.config import check
from ttl_jax.compare.setting_state import SettingState, setting_state
from ttl_jax.compare.space import Hyperparameters, Space, space
from ttl_jax.compare.summary import _setting, summarise
from ttl_jax.config import set_fields
from ttl_jax.errors import UserError
from ttl_jax.evaluation.registry import Merit
from ttl_jax.report.comparison.text import lines
from ttl_jax.report.exports import as_markdown
from ttl_jax.training.records import provenance

SETTING = Setting("phantom/mri", "resnet18", "linear_probe+l1_sp(beta=0.5)")
GRIDS = (("l1_sp.alpha", (0.01, 0.1, 0.3)), ("l1_sp.beta", (0.01, 0.1, 1.0)))


@pytest.fixture
def config(config):
    set_fields(config, {"compare.tuner": "latin", "compare.trials": 6, "compare.lr_range": (1e-4, 1e-2)})
    return config


def test_every_strength_is_an_option_with_its_default_among_the_values():
    for key, grids in strategies.STRENGTHS.items():
        for option, values in grids.items():
            default = inspect.signature(registry.get("strategy", key)).parameters[option].default
            assert default is None or default in values, (key, option)
            assert list(values) == sorted(set(values)), (key, option)
    for name in strategies.LENGTHS:
        key, _, option = name.partition(".")
        assert option in strategies.STRENGTHS[key]


def test_an_option_that_the_text_gives_a_value_is_not_open():
    grids = strategies.STRENGTHS

    def found(text):
        return set(strategies.open_strengths(text, grids))

    assert found("full") == found("linear_probe(solver='ridge')") == set()
    assert found("l1_sp") == {"l1_sp.alpha", "l1_sp.beta"}
    assert found("l1_sp(0.1)") == found("truncated(3)+l1_sp(alpha=0.1)") == {"l1_sp.beta"}
    assert found("lp_ft") == {"lp_ft.share", "lp_ft.probe_lr"}
    assert found("lp_ft(solver='lbfgs')") == found("lp_ft(lr=0.1)") == {"lp_ft.share"}
    assert found("lp_ft+l2_sp(coupled=False)") >= {"lp_ft.share", "l2_sp.alpha", "l2_sp.beta"}
    only_solved = {"linear_probe": {"l2": (0.1, 1.0)}}
    assert strategies.open_strengths("linear_probe", only_solved) == {}
    assert strategies.open_strengths("linear_probe(solver='lbfgs')", only_solved) == {
        "linear_probe.l2": (0.1, 1.0)
    }
    assert set(strategies.open_strengths("l1_sp", {**grids, "l1_sp": {"alpha": ()}})) == set()


def test_the_text_of_a_trial_is_the_strategy_with_its_values():
    text = "truncated(stage='stage2')+l1_sp(0.2, coupled=True)"
    written = strategies.with_options(text, {"l1_sp.beta": 0.1})
    assert written == "truncated(stage='stage2')+l1_sp(0.2, coupled=True, beta=0.1)"
    assert strategies.with_options(text, {}) == text
    expected = strategies.parse("truncated(stage='stage2')+l1_sp(alpha=0.2, beta=0.1, coupled=True)")
    assert strategies.parse(written) == expected


@pytest.mark.parametrize("trials", [1, 2, 5, 8, 9, 16, 27])
@pytest.mark.parametrize("options", [0, 1, 2])
def test_as_many_trials_for_every_strategy_at_the_same_rates(trials, options):
    tuner = tune.LatinHypercube(Space(1e-4, 1e-1, GRIDS[:options]), trials)
    found = tuner.known()
    assert len(set(found)) == tuner.total == trials
    rates = sorted(each.lr for each in found)
    middle = [1e-4 * 1000**0.5] if trials == 1 else np.geomspace(1e-4, 1e-1, trials)
    np.testing.assert_allclose(rates, middle, rtol=5e-3)
    for name, values in GRIDS[:options]:
        tried = [dict(each.options)[name] for each in found]
        counts = [tried.count(value) for value in values]
        assert max(counts) - min(counts) <= 1, name  # every value about equally often
    assert tuner.wanted({found[0]: 0.5}) == found[1:] and tuner.wanted(dict.fromkeys(found)) == ()


@pytest.mark.parametrize("trials", [6, 8, 9, 12, 16, 27])
def test_strengths_go_with_low_rates_and_high_ones(trials):
    """No axis follows another: else the best of one would be the other's doing."""
    found = tune.LatinHypercube(Space(1e-4, 1e-1, GRIDS), trials).known()
    axes = np.array([[np.log(each.lr), *np.log([value for _, value in each.options])] for each in found])
    assert np.abs(np.corrcoef(axes.T) - np.eye(3)).max() < 0.35
    pairs = {each.options for each in found}
    assert len(pairs) >= 0.8 * min(trials, 9)
    thirds = {(3 * place // trials, value) for place, each in enumerate(found) for value in each.options}
    assert len(thirds) >= 0.8 * min(2 * trials, 18)  # of a strength's 3 values and 3 parts of the rates


def test_a_design_is_the_same_in_every_process():
    expected = ((1, 1), (2, 2), (0, 0), (1, 1), (0, 2), (2, 0))
    assert tune.latin_hypercube(6, (3, 3)) == expected
    assert tune.latin_hypercube(4, ()) == ((), (), (), ())


def test_the_space_is_the_config_s(config):
    config.compare.grids.l1_sp.alpha = (0.5, 0.6)
    assert space(config, SETTING.strategy) == Space(1e-4, 1e-2, (("l1_sp.alpha", (0.5, 0.6)),))
    assert "lp_ft.share" in dict(space(config, "lp_ft").grids)
    config.compare.budget = "flops"  # what a training costs is not tuned then
    assert "lp_ft.share" not in dict(space(config, "lp_ft").grids)


def test_a_trial_is_a_cell_of_its_own(tmp_path, config):
    tuner = _tuner(config, tmp_path, SETTING)
    made = [cells.tuning_cell(config, SETTING, *each) for each in tuner.known()]
    finals = [cells.final_cells(config, SETTING, *each)[0] for each in tuner.known()]
    assert len({cells.folder(tmp_path, cell) for cell in made}) == 6
    for cell, final in zip(made, finals, strict=True):
        assert cells.folder(tmp_path, cell) == cells.folder(tmp_path, final)
        ((name, alpha),) = cell.options
        run = cells.cell_config(config, cell)
        assert name == "l1_sp.alpha" and run.optimizer.lr == cell.lr
        assert run.strategy == f"linear_probe+l1_sp(beta=0.5, alpha={alpha})"
    (one,) = cells.final_cells(config, SETTING, 1e-3, (("l1_sp.alpha", 0.1),))[:1]
    assert cells.folder(tmp_path, one).name == "lr0.001-l1_sp.alpha=0.1-seed0"


def test_a_folder_of_rates_alone_goes_on_as_before(tmp_path, config, finish):
    """Its cells have the names, the configs and the scores that they had."""
    config.compare.tuner = "grid"
    grid = _tuner(config, tmp_path, SETTING)
    cell = cells.tuning_cell(config, SETTING, 1e-3)
    assert cells.folder(tmp_path, cell).name == "lr0.001-seed0"
    assert cells.cell_config(config, cell).strategy == SETTING.strategy
    finish(cell, 0.7)
    provenance.check(cells.folder(tmp_path, cell), cells.cell_config(config, cell))
    assert [each.lr for each in setting_state(config, tmp_path, SETTING, grid).todo] == [1e-2]


def test_strengths_are_taken_on_validation_and_told(tmp_path, config, finish):
    tuner = _tuner(config, tmp_path, SETTING)
    first = setting_state(config, tmp_path, SETTING, tuner)
    assert (len(first.todo), first.total, first.taken) == (6, 8, None)

    def figure(cell):  # peaks at the strongest alpha, and at no edge of the rates
        return 0.7 - abs(np.log10(cell.lr) + 3) / 10 + dict(cell.options)["l1_sp.alpha"] / 2

    for cell in first.todo:
        finish(cell, figure(cell), shifted={"auroc": 1 - figure(cell)})
    chosen = setting_state(config, tmp_path, SETTING, _tuner(config, tmp_path, SETTING))
    best = max(first.todo, key=figure)
    assert chosen.taken == best.hyperparameters and len(chosen.todo) == 2
    assert {cell.options for cell in chosen.todo} == {best.options}
    for cell in chosen.todo:
        finish(cell, figure(cell))
    done = setting_state(config, tmp_path, SETTING, tuner)
    assert done.done == done.total == 8
    set_fields(config, {"compare.latency": False, "report": False})
    found = summarise(config, tmp_path, [done], {})
    (setting,) = found["settings"]
    assert setting["strategy"] == SETTING.strategy
    assert setting["options"] == {"l1_sp.alpha": 0.3} and setting["options_at_edge"] == ["l1_sp.alpha"]
    assert setting["lr"] == best.lr and not setting["lr_at_edge"]
    assert [cell["options"] for cell in setting["cells"]] == [{"l1_sp.alpha": 0.3}] * 2
    assert {entry["options"]["l1_sp.alpha"] for entry in setting["tuning"]} == {0.01, 0.1, 0.3}
    assert found["protocol"]["trials"] == 6 and found["protocol"]["tuner"] == "latin"
    json.dumps(found)
    (line,) = lines(found)
    assert line.strengths == "alpha=0.3*" and not line.edge
    head, _, row = (text.split(" | ") for text in as_markdown(found).splitlines())
    assert dict(zip(head, row, strict=True))["strengths"] == "alpha=0.3*"


def test_folds_that_take_other_strengths_say_so_cell_by_cell(tmp_path, config):
    names = ("l1_sp.alpha", "l1_sp.beta")
    taken = [
        Hyperparameters(1e-3, tuple(zip(names, values, strict=True))) for values in ((0.1, 1.0), (0.3, 1.0))
    ]
    states = [SettingState(SETTING, {each: Merit(0.5, -1.0)}, each, (), 1, 1, {}) for each in taken]
    found = _setting(config, tmp_path, states, {})
    assert found["lr"] == 1e-3 and found["options"] == {"l1_sp.beta": 1.0}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"compare.grids.l1_sp.alpha": (0.1, 0.1)}, "compare.grids.l1_sp.alpha=.* must be different numbers"),
        ({"compare.grids.lp_ft.share": (0.3, 1.5)}, "share=1.5 must lie between"),
        ({"compare.grids.l1_sp.alpah": (0.1,)}, "did you mean 'compare.grids.l1_sp.alpha'"),
        ({"compare.tuner": "latni"}, "did you mean 'latin'"),
        ({"compare.trials": 0}, "compare.trials=0 must be 1 or more"),
    ],
)
def test_a_space_that_makes_no_sense_is_one_sentence(config, fields, message):
    config.compare.strategies = ("full", "lp_ft", "l1_sp")
    check(config)
    with pytest.raises(UserError, match=message):
        set_fields(config, fields)
        check(config)


@pytest.mark.extras
def test_optuna_proposes_strengths_and_takes_up_a_study_of_rates(tmp_path, config, finish):
    pytest.importorskip("optuna")
    set_fields(config, {"compare.tuner": "optuna", "compare.trials": 4})
    tuner = _tuner(config, tmp_path, SETTING)
    old = tuner._study.ask()  # as it was noted before strengths were tuned
    old.suggest_float("lr", 1e-4, 1e-2, log=True)
    old.set_user_attr("rate", 2e-3)
    asked = []
    for _ in range(4):
        (cell,) = setting_state(config, tmp_path, SETTING, _tuner(config, tmp_path, SETTING)).todo
        asked.append(cell)
        finish(cell, 0.5)
    assert (asked[0].lr, asked[0].options) == (2e-3, ())
    assert {name for cell in asked[1:] for name, _ in cell.options} == {"l1_sp.alpha"}
    assert all(dict(cell.options)["l1_sp.alpha"] in (0.01, 0.1, 0.3) for cell in asked[1:])
    assert all(cell.final for cell in setting_state(config, tmp_path, SETTING, tuner).todo)
