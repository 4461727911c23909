"""Several steps in one call: which, and that nothing but the number of calls differs."""

import json

import jax
import numpy as np
import pytest

from ttl_jax.config import set_fields
from ttl_jax.training import compile_ahead, step
from ttl_jax.training.hooks.finite import DivergedError
from ttl_jax.training.loop import in_calls
from ttl_jax.training.run import train


@pytest.mark.parametrize(
    "start, due, expected",
    [
        (0, {10}, [3, 3, 3, 1]),
        (0, {4, 10}, [3, 1, 3, 3]),
        (0, {2, 3, 10}, [1, 1, 1, 3, 3, 1]),
        (7, {10}, [3]),
        (0, set(), [3, 3, 3, 1]),  # the data end before
    ],
)
def test_groups_end_where_something_is_due(start, due, expected):
    groups = list(in_calls(range(start, 10), start, 3, due.__contains__))
    assert [len(group) for group in groups] == expected
    assert [item for group in groups for item in group] == list(range(start, 10))


@pytest.mark.parametrize(
    "fields",
    [
        {"strategy": "truncated(2)", "parallel.mode": "pmap"},
        {"strategy": "truncated(2)+lp_ft+ema", "schedule.name": "plateau", "optimizer.clip": 1.0},
        {"strategy": "truncated(2)+auto_rgn(batches=2)", "nan_skip": 1},
    ],
)
def test_a_run_is_the_same_in_fewer_calls(tmp_path, config, datasets, monkeypatch, fields):
    # Adam would make 1e-3 of a difference in the last place.
    set_fields(config, {"optimizer.name": "sgd", "total_steps": 8, "eval_every_epochs": 2.0})
    set_fields(config, {**fields, "log_every_steps": 7})
    one = train(config, tmp_path / "one", datasets)
    made = []

    def counted(*arguments):
        made.append(1)
        return step.in_one_call(*arguments)

    monkeypatch.setattr(compile_ahead, "in_one_call", counted)
    config.parallel.steps_per_call = 2
    two = train(config, tmp_path / "two", datasets)
    assert made, "no call was of two steps"
    for mine, theirs in zip(jax.tree.leaves(two.variables), jax.tree.leaves(one.variables), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)

    def lines(name):
        return [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]

    ours, expected = lines("two"), lines("one")
    assert [(line["step"], "split" in line) for line in ours] == [
        (line["step"], "split" in line) for line in expected
    ]
    np.testing.assert_allclose(
        [line["loss"] for line in ours], [line["loss"] for line in expected], rtol=1e-3
    )


def test_a_bad_step_within_a_call_is_named(tmp_path, config, make_split, datasets):
    bad = make_split("train", 20, 0)
    config.total_steps, config.parallel.steps_per_call, config.optimizer.lr = 4, 2, 1e30
    config.strategy = "truncated(2)"
    with pytest.raises(DivergedError, match="at step [1-4] "):
        train(config, tmp_path, {**datasets, "train": bad})
