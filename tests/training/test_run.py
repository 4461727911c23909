"""The main job on small real runs: files, one look at the test split, resume, divergence."""

import dataclasses
import json
from contextlib import ExitStack

import jax
import numpy as np
import pytest

from ttl_jax.config import run_config, set_fields
from ttl_jax.data.dataset import ArrayReader, Dataset
from ttl_jax.errors import UserError
from ttl_jax.evaluation import predictions
from ttl_jax.training import run as run_module
from ttl_jax.training.hooks.finite import DivergedError
from ttl_jax.training.hooks.pause import Pause, Paused
from ttl_jax.training.records.checkpoints import Checkpoints
from ttl_jax.training.run import train


class Watched(ArrayReader):
    """An array that counts its reads, and stops the program at one of them."""

    def __new__(cls, images, stop_at=None):
        return super().__new__(cls)

    def __init__(self, images, stop_at=None):
        super().__init__(images)
        object.__setattr__(self, "reads", [])
        object.__setattr__(self, "stop_at", stop_at)

    def read(self, indices):
        self.reads.append(len(indices))
        if len(self.reads) == self.stop_at:
            raise KeyboardInterrupt
        return super().read(indices)


def watched(split, stop_at=None):
    fields = {name: getattr(split, name) for name in Dataset.__dataclass_fields__}
    return Dataset(**{**fields, "images": Watched(split.images.images, stop_at)})


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_learns_and_leaves_its_files(tmp_path, config, datasets):
    config.total_steps = 20
    result = train(config, tmp_path, datasets)
    assert result.metrics["test"]["auroc"] > 0.9
    saved = predictions.load(tmp_path / "predictions" / "test.npz")
    assert list(saved.ids) == list(datasets["test"].ids) and saved.logits.shape == (11, 2)
    np.testing.assert_allclose(
        result.predict(datasets["test"].images.images), saved.probabilities, rtol=1e-4, atol=1e-5
    )
    assert json.loads((tmp_path / "result.json").read_text()) == result.metrics
    assert json.loads((tmp_path / "config.json").read_text())["config"]["total_steps"] == 20
    steps = [line["step"] for line in lines(tmp_path) if "split" not in line]
    assert steps == sorted(set(steps)) and steps[-1] == 20
    for split, scores in (("val", result.metrics["val"]), ("test", result.metrics["test"])):
        for metric, (low, high) in result.metrics["intervals"][split].items():
            assert low <= scores[metric] <= high and low < high


def test_what_is_bad_is_said_on_the_screen_and_in_the_result(tmp_path, config, datasets, capsys):
    config.total_steps, config.data.augment, config.strategy = 1, "auto", "linear_probe"
    one = dataclasses.replace(datasets["test"], labels=np.zeros(11, np.int32))
    result = train(config, tmp_path, {**datasets, "test": one})
    codes = {warning["code"] for warning in result.metrics["warnings"]}
    printed = capsys.readouterr().out
    assert "undefined" in codes and "WARNING on the test split no example inside or outside of" in printed
    assert "augment auto: rotate(7),translate(0.04); no mirror (modality not known" in printed
    assert json.loads((tmp_path / "config.json").read_text())["augment"] == "rotate(7),translate(0.04)"


def test_the_test_split_is_read_once_and_last(tmp_path, config, datasets):
    test, val = watched(datasets["test"]), watched(datasets["val"])
    config.strategy = "truncated(2)"
    train(config, tmp_path, {**datasets, "test": test, "val": val})
    assert sum(test.images.reads) == 12  # 11 examples in batches of 4, the last one padded
    evaluations = sum(line.get("split") == "val" for line in lines(tmp_path))
    assert len(val.images.reads) == 3 * (evaluations + 1)  # and once with the best variables
    train(config, tmp_path, {**datasets, "test": test})
    assert sum(test.images.reads) == 12


@pytest.mark.parametrize("share, saved", [(1.0, 4), (1e-9, 2)])  # at every validation, at the first one alone
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path, config, datasets, capsys, share, saved
):
    config.eval_every_epochs, config.strategy = 0.8, "truncated(3)"  # 2 steps
    whole = train(config, tmp_path / "whole", datasets)
    config.save_share = share
    broken = {**datasets, "val": watched(datasets["val"], stop_at=8)}  # in the third validation
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "broken", broken)
    resumed = train(config, tmp_path / "broken", datasets)
    assert f"resumed at step {saved} " in capsys.readouterr().out
    for mine, theirs in zip(
        jax.tree.leaves(resumed.variables), jax.tree.leaves(whole.variables), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    assert resumed.metrics["test"] == whole.metrics["test"]

    def figures(name):
        drop = ("img_per_s",)
        return [{k: v for k, v in line.items() if k not in drop} for line in lines(tmp_path / name)]

    assert figures("broken") == figures("whole")


def test_a_paused_run_goes_on_as_if_it_had_not_paused(tmp_path, config, datasets):
    config.eval_every_epochs, config.strategy = 0.8, "truncated(1)"  # 2 of 6 steps
    whole = train(config, tmp_path / "whole", datasets)
    with pytest.raises(Paused, match="paused at step 4"):
        train(config, tmp_path / "paused", datasets, hooks=[Pause(0.5)])
    assert max(line["step"] for line in lines(tmp_path / "paused")) == 4
    assert not (tmp_path / "paused" / "result.json").exists()
    paused = train(config, tmp_path / "paused", datasets, hooks=[Pause(1.0)])
    for mine, theirs in zip(jax.tree.leaves(paused.variables), jax.tree.leaves(whole.variables), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert paused.metrics["test"] == whole.metrics["test"]


def test_a_run_may_be_told_at_its_pause_to_go_on(tmp_path, config, datasets):
    config.eval_every_epochs, config.strategy = 0.8, "truncated(1)"  # 2 of 6 steps
    whole, asked = train(config, tmp_path / "whole", datasets), []

    def go_on():
        asked.append(max(line["step"] for line in lines(tmp_path / "on")))
        return 0.5 if len(asked) == 1 else None

    with ExitStack() as ending, pytest.raises(Paused, match="paused at step 4"):
        train(config, tmp_path / "on", datasets, hooks=[Pause(0.1, go_on, ending)])
    assert asked == [2, 4]
    on = train(config, tmp_path / "on", datasets)
    assert on.metrics["test"] == whole.metrics["test"]
    for mine, theirs in zip(jax.tree.leaves(on.variables), jax.tree.leaves(whole.variables), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_another_config_in_the_same_folder_is_refused(tmp_path, config, datasets):
    config.strategy = "truncated(1)"
    train(config, tmp_path, datasets)
    config.optimizer.lr = 0.5
    with pytest.raises(UserError, match="optimizer.lr: 0.001 -> 0.5"):
        train(config, tmp_path, datasets)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, config, datasets):
    config.optimizer.name, config.optimizer.lr = "sgd", 1e30
    config.schedule.warmup, config.total_steps = 0.0, 12
    with pytest.raises(DivergedError, match="at step .* lower optimizer.lr"):
        train(config, tmp_path, datasets)


@pytest.mark.parametrize(("share", "end"), [(0.25, 4), (0.375, 6)])
def test_phases_that_meet_beside_an_epochs_end_have_one_validation(tmp_path, config, datasets, share, end):
    config.total_steps, config.eval_every_epochs = 16, 2.0  # of 2.5 steps: epochs end at 5, 10, 15
    config.strategy = f"truncated(1)+lp_ft(share={share})"
    train(config, tmp_path, datasets)
    assert [line["step"] for line in lines(tmp_path) if "split" in line] == [end, 10, 15, 16]


def test_several_labels_with_unknown_ones(tmp_path, config, make_split):
    sets = {name: make_split(name, 20, seed, task="multilabel") for seed, name in
            enumerate(("train", "val", "test"))}  # fmt: skip
    config.strategy, config.model.head = "linear_probe", "mlp"
    result = train(config, tmp_path, sets)
    assert np.isfinite(result.metrics["test"]["loss"])
    assert result.metrics["trainable_params"] == 512 * 512 + 512 + 512 * 2 + 2


def test_early_stop_ends_a_run(tmp_path, config, datasets):
    config.total_steps, config.early_stop.patience, config.optimizer.lr = 60, 2, 1e-12
    config.schedule.name, config.strategy = "constant", "truncated(1)"
    result = train(config, tmp_path, datasets)
    assert result.metrics["steps"] < 60


@pytest.mark.parametrize("estimate", ["moving", "precise(2)"])
def test_a_kill_after_the_state_of_an_early_stop_changes_nothing(
    tmp_path, config, datasets, monkeypatch, estimate
):
    """Before the next phase, or the end, is saved."""
    set_fields(config, {
        "strategy": "truncated(2)+gradual_last_first", "total_steps": 48, "eval_every_epochs": 0.4,
        "early_stop.patience": 2, "optimizer.lr": 1e-12, "schedule.name": "constant", "save_share": 1e-9,
        "model.bn_estimate": estimate,
    })  # fmt: skip
    whole = train(config, tmp_path / "whole", datasets)
    assert whole.metrics["steps"] < 48
    save, kills = Checkpoints.save_last, []

    def killed(self, state, progress):
        save(self, state, progress)
        if progress["bad"] == 2 and progress["phase"] == len(kills):
            kills.append(progress["step"])
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save_last", killed)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "killed", datasets)
    resumed = train(config, tmp_path / "killed", datasets)
    assert len(kills) == 3 and resumed.metrics["steps"] == whole.metrics["steps"] == kills[-1]
    jax.tree.map(np.testing.assert_array_equal, resumed.variables, whole.variables)
    events = [[(line["step"], "split" in line, line["loss"]) for line in lines(tmp_path / name)]
              for name in ("whole", "killed")]  # fmt: skip
    assert events[0] == events[1]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("select", "aurok", "did you mean 'auroc'"),
        ("total_steps", 0, None),
        ("strategy", "linear_prob", "did you mean 'linear_probe'"),
    ],
)
def test_a_bad_field_is_refused_before_anything_is_written(tmp_path, config, datasets, field, value, message):
    config[field] = value
    if message is None:
        config.total_epochs, message = 0.0, "total_epochs=0.0 must be above 0"
    with pytest.raises(UserError, match=message):
        train(config, tmp_path / "new", datasets)
    assert not (tmp_path / "new").exists()


class Poisoned(ArrayReader):
    """Images that read as a float NaN in the named batches."""

    def __init__(self, images, batches):
        super().__init__(images)
        object.__setattr__(self, "batches", batches)
        object.__setattr__(self, "count", [0])

    def read(self, indices):
        self.count[0] += 1
        images = super().read(indices).astype(np.float32)
        return images * np.nan if self.count[0] in self.batches else images


def poisoned(split, *batches):
    fields = {name: getattr(split, name) for name in Dataset.__dataclass_fields__}
    return Dataset(**{**fields, "images": Poisoned(split.images.images, batches)})


def test_bad_batches_are_named_and_so_many_may_change_nothing(tmp_path, config, datasets, capsys):
    config.strategy, config.data.loader_threads = "truncated(2)+full", 0
    bad = {**datasets, "train": poisoned(datasets["train"], 3, 5)}
    with pytest.raises(DivergedError, match=r"at step 3 \(examples train-\d+, .* last good checkpoint stays"):
        train(config, tmp_path / "stop", bad)
    record = json.loads((tmp_path / "stop" / "nonfinite.json").read_text())
    assert record["step"] == 3 and len(record["examples"]) == 8 and record["gradient_norm"] == "nan"
    config.nan_skip = 1
    bad["train"] = poisoned(datasets["train"], 3, 5)
    with pytest.raises(DivergedError, match="at step 5"):
        train(config, tmp_path / "one", bad)
    config.nan_skip = 2
    bad["train"] = poisoned(datasets["train"], 3, 5)
    result = train(config, tmp_path / "two", bad)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.variables))
    assert "skipped, 0 more may be" in capsys.readouterr().out


def test_a_batch_that_memory_cannot_hold_is_refused_with_both_sizes(config, monkeypatch):
    monkeypatch.setattr(run_module, "machine_memory", lambda: 3 * 2**30)
    set_fields(config, {"data.batch_size": 1 << 16, "data.image_size": 256})
    side = 2**16 * 256**2 * 3 * run_module.FLOATS / 2**30
    with pytest.raises(
        UserError, match=f"data.batch_size=65536 .* take {side:.0f} GiB, and this .* has 3: lower"
    ):
        run_module._check_memory(run_config(config))


def test_of_one_phase_wise_ft_takes_either_selection(tmp_path, config, datasets):
    set_fields(config, {"strategy": "truncated(1)+wise_ft(0.5)", "select_phase": "any", "total_steps": 3})
    assert train(config, tmp_path, datasets).metrics["best_step"] == 3
