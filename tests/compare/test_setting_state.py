"""What is run next, and which learning rate is taken, from folders alone."""

import json

import pytest

from ttl_jax.compare import cells, tune
from ttl_jax.compare.cells import Setting
from ttl_jax.compare.setting_state import prune, setting_state
from ttl_jax.compare.space import Hyperparameters
from ttl_jax.compare.summary import summarise
from ttl_jax.evaluation.registry import Merit

SETTING = Setting("phantom/mri", "resnet18", "linear_probe")


def at(scores):
    """{rate: figure} as the scores of trials that set a rate alone."""
    return {Hyperparameters(lr): value for lr, value in scores.items()}


def rates(tried):
    assert not any(each.options for each in tried)
    return tuple(each.lr for each in tried)


def todo(found):
    return {(cell.lr, cell.seed, cell.final) for cell in found.todo}


def test_rates_are_tried_on_the_first_seed_and_the_best_is_run_on_all(tmp_path, config, finish):
    grid = tune.Grid(config.compare.lrs)
    first = setting_state(config, tmp_path, SETTING, grid)
    assert todo(first) == {(1e-3, 0, False), (1e-2, 0, False)}
    assert (first.rate, first.done, first.total) == (None, 0, 4)
    finish(cells.tuning_cell(config, SETTING, 1e-3), 0.6)
    assert todo(setting_state(config, tmp_path, SETTING, grid)) == {(1e-2, 0, False)}
    finish(cells.tuning_cell(config, SETTING, 1e-2), 0.7)
    chosen = setting_state(config, tmp_path, SETTING, grid)
    assert (chosen.rate, chosen.done, chosen.total) == (1e-2, 2, 4)
    assert todo(chosen) == {(1e-2, 0, True), (1e-2, 1, True)}
    for cell in chosen.todo:
        finish(cell, 0.7)
    finished = setting_state(config, tmp_path, SETTING, grid)
    assert finished.todo == () and finished.done == finished.total == 4
    more = setting_state(config, tmp_path, SETTING, tune.Grid((*config.compare.lrs, 3e-3)))
    assert todo(more) == {(3e-3, 0, False)}  # a longer grid repeats nothing


def test_the_test_split_has_no_say(tmp_path, config, finish):
    for lr, auroc in ((1e-3, 0.9), (1e-2, 0.6)):
        finish(cells.tuning_cell(config, SETTING, lr), auroc, shifted={"auroc": 1 - auroc})
    assert setting_state(config, tmp_path, SETTING, tune.Grid((1e-3, 1e-2))).rate == 1e-3


def test_a_rate_that_diverges_loses_and_all_of_them_end_the_setting(tmp_path, config, finish):
    diverging, good = (cells.tuning_cell(config, SETTING, lr) for lr in (1e-2, 1e-3))
    finish(good, 0.51)
    place = cells.folder(tmp_path, diverging)
    place.mkdir(parents=True)
    (place / "diverged.json").write_text(json.dumps({"message": "loss is nan at step 3"}))
    grid = tune.Grid((1e-3, 1e-2))
    assert setting_state(config, tmp_path, SETTING, grid).rate == 1e-3
    alone = setting_state(config, tmp_path, SETTING, tune.Grid((1e-2,)))
    assert (alone.rate, alone.todo, alone.done, alone.total) == (None, (), 1, 1)
    found = summarise(config, tmp_path, [alone], {})["settings"][0]
    assert found["note"] == "training diverged at every learning rate" and found["cells"] == []


def test_a_figure_that_is_not_defined_gives_way_to_the_loss(tmp_path, config, finish):
    for lr, loss in ((1e-3, 0.3), (1e-2, 0.2)):
        cell = cells.tuning_cell(config, SETTING, lr)
        finish(cell, None)
        path = cells.folder(tmp_path, cell) / "result.json"
        result = json.loads(path.read_text())
        result["val"]["loss"] = loss
        path.write_text(json.dumps(result))
    assert setting_state(config, tmp_path, SETTING, tune.Grid((1e-3, 1e-2))).rate == 1e-2


def test_ties_go_to_the_smaller_rate_and_edges_are_told():
    assert tune.best(at({1e-2: 0.5, 1e-3: 0.5, 1e-1: None})) == Hyperparameters(1e-3)
    assert tune.best(at({1e-2: None})) is None
    equal = at({1e-3: Merit(1.0, -0.4), 1e-2: Merit(1.0, -0.1), 1e-1: Merit(1.0, -0.1)})
    assert tune.best(equal) == Hyperparameters(1e-2)  # the lower loss, then the smaller rate
    scores = at({1e-3: 0.1, 1e-2: 0.2, 1e-1: 0.1})
    assert tune.at_edge(scores, Hyperparameters(1e-1))
    assert not tune.at_edge(scores, Hyperparameters(1e-2))


def test_a_grid_is_extended_beyond_its_best_edge_and_no_further_than_told():
    scores = {1e-3: 0.6, 3e-3: 0.7, 1e-2: 0.8}
    grid = tune.Grid((1e-3, 3e-3, 1e-2), extend=2)

    def wanted(scores, grid=grid):
        return rates(grid.wanted(at(scores)))

    assert wanted(scores, tune.Grid((1e-3, 3e-3, 1e-2))) == ()
    assert wanted({1e-3: 0.6}) == (3e-3, 1e-2)
    assert wanted(scores) == (0.0333,)
    assert wanted({**scores, 0.0333: 0.75}) == ()  # the best lies inside now
    assert wanted({**scores, 0.0333: None}) == ()  # training diverges there
    assert wanted({**scores, 0.0333: 0.85}) == (0.111,)
    assert wanted({**scores, 0.0333: 0.85, 0.111: 0.9}) == ()
    assert wanted({1e-3: 0.9, 3e-3: 0.7, 1e-2: 0.8}) == (0.000333,)


def test_an_extended_grid_is_planned_from_folders(tmp_path, config, finish):
    grid = tune.Grid((1e-3, 1e-2), extend=1)
    for lr, auroc in ((1e-3, 0.6), (1e-2, 0.7)):
        finish(cells.tuning_cell(config, SETTING, lr), auroc)
    found = setting_state(config, tmp_path, SETTING, grid)
    assert todo(found) == {(0.1, 0, False)} and (found.done, found.total) == (2, 5)
    finish(cells.tuning_cell(config, SETTING, 0.1), 0.9)
    found = setting_state(config, tmp_path, SETTING, grid)
    assert found.rate == 0.1 and len(found.todo) == 2 and (found.done, found.total) == (3, 5)


@pytest.mark.parametrize(("keep", "left"), [("none", set()), ("best", {"best"}), ("all", {"best", "last"})])
def test_checkpoints_that_nobody_needs_are_removed(tmp_path, config, finish, keep, left):
    config.compare.keep = keep
    losing, winning = (cells.tuning_cell(config, SETTING, lr) for lr in (1e-3, 1e-2))
    finish(losing, 0.4)
    finish(winning, 0.8)
    grid = tune.Grid((1e-3, 1e-2))

    def inside(cell):
        place = cells.folder(tmp_path, cell) / "checkpoints"
        return {path.name for path in place.iterdir()} if place.exists() else set()

    prune(config, tmp_path, setting_state(config, tmp_path, SETTING, grid))
    assert inside(winning) == {"best", "last"}  # the final cell goes on from here
    assert inside(losing) == (left if keep == "all" else set())
    for cell in cells.final_cells(config, SETTING, 1e-2):
        finish(cell, 0.8)
    prune(config, tmp_path, setting_state(config, tmp_path, SETTING, grid))
    assert inside(winning) == left


@pytest.mark.extras
def test_optuna_goes_on_with_its_study(tmp_path, config, finish):
    pytest.importorskip("optuna")
    config.compare.tuner, config.compare.trials = "optuna", 4

    def best_at(lr):  # validation peaks at 1e-3
        return 1.0 - abs(__import__("math").log10(lr) + 3) / 3

    asked = []
    for _ in range(config.compare.trials):
        study = tune.Optuna(tmp_path / "optuna", SETTING, config)  # as after a restart
        (cell,) = setting_state(config, tmp_path, SETTING, study).todo
        again = tune.Optuna(tmp_path / "optuna", SETTING, config)
        assert setting_state(config, tmp_path, SETTING, again).todo == (cell,)
        asked.append(cell.lr)
        finish(cell, best_at(cell.lr))
    found = setting_state(config, tmp_path, SETTING, tune.Optuna(tmp_path / "optuna", SETTING, config))
    assert all(cell.final for cell in found.todo) and len(found.todo) == 2
    assert sorted(rates(found.tuning)) == sorted(set(asked))
    assert found.rate == max(asked, key=best_at)
    assert all(1e-5 <= lr <= 1e-2 for lr in asked)
