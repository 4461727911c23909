from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ttl_jax.evaluation import predictions, subgroups


def saved(tmp_path):
    random = np.random.default_rng(0)
    labels = random.integers(2, size=120)
    sex = np.array(["F", "M", ""])[random.choice(3, size=120, p=[0.5, 0.4, 0.1])]
    ages = random.integers(20, 90, size=120).astype(str)
    logits = random.normal(size=(120, 2)) + np.eye(2)[labels] * np.where(sex == "F", 3, 1)[:, None]
    path = predictions.save(
        tmp_path / "test.npz",
        ids=np.arange(120).astype(str), groups=(np.arange(120) // 2).astype(str), labels=labels,
        logits=logits, class_names=("a", "b"), task="multiclass",
        columns={"sex": sex, "age": ages, "name": np.array([f"n{i}" for i in range(120)])},
    )  # fmt: skip
    return predictions.load(path)


def test_columns_come_back_and_every_value_is_scored(tmp_path):
    held = saved(tmp_path)
    assert set(held.columns) == {"sex", "age", "name"}
    found = {(each.column, each.value): each for each in subgroups(held)}
    for value in ("F", "M"):
        members = held.columns["sex"] == value
        row = found["sex", value]
        odds = held.logits[:, 1] - held.logits[:, 0]
        assert row.examples == members.sum()
        assert row.patients == len(set(held.groups[members]))
        assert row.auroc.estimate == pytest.approx(roc_auc_score(held.labels[members], odds[members]))
        assert row.accuracy.estimate == pytest.approx(((odds > 0) == held.labels)[members].mean())
        assert row.auroc.low < row.auroc.estimate <= row.auroc.high
    assert found["sex", "unknown"].examples == (held.columns["sex"] == "").sum()
    assert not any(column == "name" for column, _ in found)


def test_ages_are_cut_at_quantiles_and_nobody_is_lost(tmp_path):
    held = saved(tmp_path)
    rows = [each for each in subgroups(held) if each.column == "age"]
    assert len(rows) == 4 and sum(each.examples for each in rows) == 120
    ages = held.columns["age"].astype(int)
    first = int(rows[0].value.removeprefix("below "))
    assert rows[0].examples == (ages < first).sum() and abs(rows[0].examples - 30) <= 5


def test_a_group_of_one_class_has_no_auroc(tmp_path):
    held = saved(tmp_path)
    site = np.where(held.labels == 1, "north", "south")
    found = subgroups(held, {"site": site})
    assert [each.auroc.estimate for each in found] == [None, None]
    with pytest.raises(ValueError, match="3 cells for 120"):
        subgroups(held, {"site": site[:3]})
