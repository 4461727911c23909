from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from ttl_jax.evaluation import Predictions, predictions, subgroups
from ttl_jax.evaluation.subgroups import gaps


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


def hospitals(seed, sizes=(90, 45), prevalence=(0.5, 0.25), signal=(1.5, 1.5), images=3):
    """Patients of several sites, one to `images` images each, and how well they are told apart at each."""
    random, parts, first = np.random.default_rng(seed), [], 0
    for site, (size, share, apart) in enumerate(zip(sizes, prevalence, signal, strict=True)):
        labels = (random.random(size) < share).astype(int)
        labels[:2], labels[-2:] = 1, 0
        of = np.repeat(np.arange(size), random.integers(1, images + 1, size=size))
        shared = random.normal(size=size)[of] * 0.7
        scores = apart * (labels[of] - 0.5) + shared + random.normal(size=len(of)) * 0.714
        parts.append((of + first, labels[of], scores, np.full(len(of), f"site {site}")))
        first += size
    groups, labels, scores, sites = (np.concatenate(each) for each in zip(*parts, strict=True))
    logits = np.stack([np.zeros(len(scores)), scores], axis=1)
    return Predictions(groups, groups, labels, logits, ("a", "b"), "multiclass", {"site": sites})


@pytest.mark.parametrize("images", [1, 3])
def test_sites_alike_are_found_to_differ_in_one_of_twenty(images):
    """Another prevalence and several images a patient; of 400 tests .05 is .03 to .08 at 99 %."""
    found, covered = {"auroc": [], "accuracy": []}, []
    truth = {"auroc": stats.norm.cdf(1.5 / 2**0.5), "accuracy": stats.norm.cdf(0.75)}
    for seed in range(400):
        for gap in gaps(hospitals(seed, images=images)):
            found[gap.metric].append(gap.p < 0.05)
            covered.append(gap.low <= truth[gap.metric] <= gap.high)
    for metric, hits in found.items():
        assert len(hits) == 400 and 0.015 < np.mean(hits) < 0.08, metric
    assert np.mean(covered) > 0.935  # the worst of two, although it was picked out


def test_a_site_that_is_worse_is_named():
    held = hospitals(1, sizes=(300, 150), signal=(3.0, 0.5))
    columns = {"site": held.columns["site"], "noise": np.arange(len(held)).astype(str)}
    found = {(each.column, each.metric): each for each in gaps(held, columns)}
    site = found["site", "auroc"]
    assert site.worst == "site 1" and site.p < 1e-6 and site.values == ("site 0", "site 1")
    assert site.low < site.estimate < site.high < 0.8 and site.gap > 0.2
    rows = {each.value: each for each in subgroups(held, {"site": columns["site"]})}
    assert site.estimate == pytest.approx(rows["site 1"].auroc.estimate)
    assert site.low < rows["site 1"].auroc.low  # it allows for its being picked
    holm = multipletests([each.p for each in found.values()], method="holm")[1]
    assert [each.p_holm for each in found.values()] == pytest.approx(list(holm))


def test_a_column_with_one_value_or_one_class_a_value_is_not_tested(tmp_path):
    held = saved(tmp_path)
    one = {"country": np.full(120, "x"), "label": np.where(held.labels == 1, "up", "down")}
    assert [(each.column, each.metric) for each in gaps(held, one)] == [("label", "accuracy")]
    sure = held.__class__(**vars(held) | {"logits": 9 * np.eye(2)[held.labels]})
    assert all(
        each.p == 1 and each.low < 1 == each.estimate for each in gaps(sure, {"sex": held.columns["sex"]})
    )
