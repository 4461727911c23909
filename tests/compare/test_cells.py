"""Which cells there are, and what their configs say."""

from functools import partial

import pytest

from ttl_jax.analysis import strategy_plan
from ttl_jax.compare import budget, cells, fold_counts
from ttl_jax.compare.cells import Setting
from ttl_jax.compare.config import check
from ttl_jax.config import set_fields
from ttl_jax.errors import UserError
from ttl_jax.training.run import check as check_run


def test_every_combination_is_a_setting_with_a_folder_of_its_own(tmp_path, config):
    set_fields(
        config,
        {
            "compare.datasets": ("phantom/mri", "breastmnist"),
            "compare.models": ("resnet18", "vgg16"),
            "compare.strategies": ("full", "full+l2_sp(alpha=0.01)", "full+l2_sp(alpha=0.1)"),
        },
    )
    found = cells.settings(config)
    assert len(found) == len(set(found)) == 12
    assert [setting.dataset for setting in found] == ["phantom/mri"] * 6 + ["breastmnist"] * 6
    places = {
        cells.folder(tmp_path, cell)
        for setting in found
        for lr in (1e-3, 1e-2)
        for cell in cells.final_cells(config, setting, lr)
    }
    assert len(places) == 12 * 2 * 2


def test_two_names_for_one_folder_are_refused(config):
    config.compare.strategies = ("full+l2_sp(alpha=0.1)", "full+l2_sp(alpha=0.1 )")
    with pytest.raises(UserError, match="would share a folder"):
        cells.settings(config)


def test_a_cell_s_config_is_a_run_s(config):
    setting = Setting("breastmnist", "resnet34", "lp_ft")
    config.data.augment = "rotate(5)"
    made = cells.cell_config(config, cells.final_cells(config, setting, 3e-4)[1])
    check_run(made)
    assert not hasattr(made, "compare") and made.evaluate_test and not made.report
    assert (made.data.name, made.data.path) == ("npz", "../shared/data/medmnist/breastmnist.npz")
    assert made.data.image_size == 16  # what the user set wins over the preset
    assert made.data.augment == "rotate(5)"
    assert (made.model.name, made.strategy, made.optimizer.lr, made.seed) == ("resnet34", "lp_ft", 3e-4, 1)
    assert not cells.cell_config(config, cells.tuning_cell(config, setting, 3e-4)).evaluate_test


def test_a_preset_fills_in_what_the_user_left_alone(config):
    made = cells.cell_config(config, cells.tuning_cell(config, Setting("ham10000", "vgg16", "full"), 1e-3))
    assert made.data.class_weights == "balanced" and made.data.group == "lesion_id"


def test_tuning_of_another_length_has_folders_of_its_own(tmp_path, config):
    setting = Setting("", "resnet18", "full")
    final = cells.final_cells(config, setting, 1e-3)[0]
    assert cells.folder(tmp_path, cells.tuning_cell(config, setting, 1e-3)) == cells.folder(tmp_path, final)
    set_fields(config, {"compare.tune_epochs": 2.0, "total_steps": 0})
    short = cells.tuning_cell(config, setting, 1e-3)
    assert cells.folder(tmp_path, short) != cells.folder(tmp_path, final)
    assert cells.cell_config(config, short).total_epochs == 2.0
    assert cells.cell_config(config, final).total_epochs == config.total_epochs


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("strategies", ("ful",), "did you mean 'full'"),
        ("strategies", (), "compare.strategies is empty"),
        ("models", ("resnet51",), "did you mean 'resnet"),
        ("datasets", ("phantom/skin",), "no data set preset"),
        ("seeds", (1, 1), "names something twice"),
        ("lrs", (0.1, -1.0), "compare.lrs=.* must be above 0"),
        ("lrs", (0.1, 0.1), "different rates above 0"),
        ("lr_range", (0.1, 0.01), "must rise"),
        ("engine", "slurm", "compare.engine='slurm'"),
        ("folds", "2", "folds are 3 or more"),
        ("folds", "many", "folds are 3 or more"),
        ("budget", "flop", "did you mean 'flops'"),
        ("workers", 0, "must be 1 or more"),
        ("tune_epochs", 1.0, "needs total_epochs"),
    ],
)
def test_a_bad_field_is_one_sentence(config, field, value, message):
    config.compare[field] = value
    with pytest.raises(UserError, match=message):
        check(config)


def test_folds_are_settings_of_their_own(tmp_path, config):
    set_fields(config, {"compare.folds": "3", "compare.datasets": ("breastmnist",)})
    check(config)
    found = cells.settings(config, fold_counts.resolve(config, tmp_path))
    assert [setting.fold for setting in found] == [0, 1, 2]
    made = [cells.cell_config(config, cells.tuning_cell(config, setting, 1e-3)) for setting in found]
    assert [(each.data.folds, each.data.fold) for each in made] == [(3, 0), (3, 1), (3, 2)]
    assert len({cells.folder(tmp_path, cells.tuning_cell(config, setting, 1e-3)) for setting in found}) == 3
    config.compare.datasets = ("phantom/mri",)
    with pytest.raises(UserError, match="phantom/mri is generated and has no folds"):
        check(config)


def test_few_images_without_a_test_split_are_cross_validated(tmp_path, config, capsys):
    """The split of their own, the number that train, and what was decided before all count."""
    names = {"few": 40, "official": 40, "many": 1600}
    for name, count in names.items():
        write_folder(tmp_path / name, count, official=name == "official")
    set_fields(config, {"compare.datasets": (), "data.name": "folder", "data.image_size": 8})

    def resolved(name, workdir, **fields):
        set_fields(config, {"data.path": str(tmp_path / name), "data.train_limit": 0, **fields})
        return fold_counts.resolve(config, tmp_path / workdir)[""]

    assert resolved("few", "a") == 5
    assert "5 folds of whole groups, as there are about 28 training images" in capsys.readouterr().out
    assert resolved("official", "b") == 0
    assert resolved("official", "c", **{"data.resplit": True}) == 5
    assert resolved("many", "d", **{"data.resplit": False}) == 0
    assert resolved("many", "e", **{"data.train_limit": 400}) == 5
    assert resolved("many", "a") == 5  # decided once
    (tmp_path / "f" / "cells").mkdir(parents=True)
    assert resolved("few", "f") == 0  # begun with one split
    (tmp_path / "h" / "cells" / "data" / "m" / "s" / "fold0").mkdir(parents=True)
    assert resolved("few", "h") == 5  # folds.json was lost
    assert resolved("many", "g", **{"compare.folds": "4"}) == 4


def write_folder(place, count, official):
    from PIL import Image

    for number in range(count):
        split = ("train", "test")[number % 4 == 3] if official else ""
        path = place / split / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1, 1), (number % 256, number // 256, 0)).save(path)


def test_a_budget_of_operations_scales_a_cell_s_length(config):
    config.compare.strategies = ("full", "linear_probe", "linear_probe(solver='ridge')")
    config.compare.budget = "flops"
    counts = zip(config.compare.strategies, (300.0, 100.0, 100.0), strict=True)
    flops = {("", "resnet18", name): count for name, count in counts}
    found = budget.relative(config, flops)
    assert list(found.values()) == [1.0, 3.0, 1.0]  # what is solved takes no steps
    config.compare.reference = "linear_probe"
    assert list(budget.relative(config, flops).values()) == [0.3333, 1.0, 1.0]
    assert budget.sentence(config) == (
        "the training operations that linear_probe takes in 2 steps, without cached features"
    )
    set_fields(
        config, {"total_steps": 0, "total_epochs": 4.0, "eval_every_epochs": 2.0, "compare.datasets": ()}
    )
    settings = cells.settings(config, None, found)
    assert [setting.length for setting in settings] == [1.0, 3.0, 1.0]
    made = cells.cell_config(config, cells.final_cells(config, settings[1], 1e-3)[0])
    assert (made.total_epochs, made.eval_every_epochs, made.total_steps) == (12.0, 6.0, 0)
    config.total_steps = 10
    made = cells.cell_config(config, cells.final_cells(config, settings[1], 1e-3)[0])
    assert made.total_steps == 30


def test_operations_are_those_of_the_plan(tmp_path, config):
    """A frozen backbone's step has its forward pass alone: about a third, or less where updates weigh."""
    config.compare.strategies, config.compare.budget = ("full", "linear_probe"), "flops"
    config.data.image_size = 64
    found = budget.lengths(config, tmp_path)
    longer = found["phantom/dermoscopy", "resnet18", "linear_probe"]
    assert found["phantom/dermoscopy", "resnet18", "full"] == 1 and 2.5 < longer < 4
    assert budget.lengths(config, tmp_path) == found  # read from budget.json


def test_a_budget_of_operations_that_are_not_counted_is_refused(monkeypatch):
    monkeypatch.setattr(strategy_plan, "plan", partial(strategy_plan.plan, count=False))
    with pytest.raises(UserError, match="operations of 'full' on resnet18 cannot be counted"):
        budget.operations("full", "resnet18", image_size=32, batch=4)
