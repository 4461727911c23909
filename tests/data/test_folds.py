"""Folds: a partition of whole groups, as even as scikit-learn's."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from ttl_jax import data
from ttl_jax.data import DataConfig
from ttl_jax.data.splits.folds import assign_folds, splits_of_fold
from ttl_jax.errors import UserError


@st.composite
def cohorts(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    sizes = rng.integers(1, 6, draw(st.integers(10, 80)))
    classes = draw(st.integers(2, 4))
    groups = np.repeat([f"p{number}" for number in range(len(sizes))], sizes)
    labels = np.repeat(rng.integers(0, classes, len(sizes)), sizes)
    noisy = rng.random(len(labels)) < 0.1
    labels[noisy] = rng.integers(0, classes, noisy.sum())
    return labels.astype(np.int32), groups, draw(st.integers(3, 6))


def unevenness(labels, fold_of, folds):
    """Standard deviation over folds of the class counts, averaged over classes."""
    table = np.stack(
        [np.bincount(labels[fold_of == fold], minlength=labels.max() + 1) for fold in range(folds)]
    )
    return table.std(axis=0).mean()


@settings(max_examples=60, deadline=None)
@given(cohorts(), st.integers(0, 50), st.randoms(use_true_random=False))
def test_folds_are_a_partition_of_whole_groups(cohort, seed, random):
    labels, groups, folds = cohort
    fold_of = assign_folds(labels, groups, folds, seed)
    assert set(fold_of) == set(range(folds))
    for group in np.unique(groups):
        assert len(set(fold_of[groups == group])) == 1
    counts = np.bincount(fold_of)
    assert counts.max() - counts.min() <= 5 * 4 + 5  # the largest group, once for each class
    shuffled = list(range(len(groups)))
    random.shuffle(shuffled)
    assert np.array_equal(assign_folds(labels[shuffled], groups[shuffled], folds, seed), fold_of[shuffled])


def test_folds_are_as_even_as_scikit_learns():
    ours, theirs = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 6, 120)
        groups = np.repeat(np.arange(120).astype(str), sizes)
        labels = np.repeat((rng.random(120) < 0.3).astype(np.int32), sizes)
        ours.append(unevenness(labels, assign_folds(labels, groups, 5, seed), 5))
        fold_of = np.empty(len(labels), int)
        for fold, (_, held) in enumerate(StratifiedGroupKFold(5).split(labels, labels, groups)):
            fold_of[held] = fold
        theirs.append(unevenness(labels, fold_of, 5))
    assert np.mean(ours) <= 1.1 * np.mean(theirs) + 0.2


def test_several_labels_keep_their_shares_in_every_fold():
    rng = np.random.default_rng(1)
    labels = (rng.random((300, 5)) < np.geomspace(0.05, 0.6, 5)).astype(np.float32)
    fold_of = assign_folds(labels, np.arange(300).astype(str), 5, 0)
    for fold in range(5):
        assert np.abs(labels[fold_of == fold].sum(0) - labels.sum(0) / 5).max() <= 2


def test_every_image_is_tested_once():
    fold_of = np.arange(50) % 5
    tested = np.stack([splits_of_fold(fold_of, 5, fold) == "test" for fold in range(5)])
    validated = np.stack([splits_of_fold(fold_of, 5, fold) == "val" for fold in range(5)])
    assert (tested.sum(0) == 1).all() and (validated.sum(0) == 1).all() and not (tested & validated).any()


def test_a_test_split_of_the_datas_own_stays():
    own = np.arange(40) < 10
    fold_of = np.where(own, -1, np.arange(40) % 3)
    for fold in range(3):
        splits = splits_of_fold(fold_of, 3, fold, own)
        assert (splits[own] == "test").all() and set(splits[~own]) == {"train", "val"}


def test_folds_are_written_once_for_all_and_read_back(class_folders, tmp_path):
    path = tmp_path / "folds.json"
    config = DataConfig(name="folder", path=str(class_folders), image_size=8, folds=4, splits=str(path))
    tests = [set(data.load(replace(config, fold=fold))["test"].ids) for fold in range(4)]
    assert sum(map(len, tests)) == len(set().union(*tests)) == 60
    content = json.loads(path.read_text())
    assert [set(items) for items in content["folds"]] == tests
    content["folds"] = content["folds"][1:] + content["folds"][:1]
    path.write_text(json.dumps(content))
    assert set(data.load(config)["test"].ids) == tests[1]
    with pytest.raises(UserError, match="holds 4 folds and data.folds=5"):
        data.load(replace(config, folds=5))
    with pytest.raises(UserError, match="holds folds; set data.folds=4"):
        data.load(replace(config, folds=0))


def test_fewer_groups_than_folds():
    with pytest.raises(UserError, match="data.folds=5 needs as many groups, and there are 3"):
        assign_folds(np.zeros(6, np.int32), np.repeat(["a", "b", "c"], 2), 5, 0)


def test_shares_of_training_are_nested_and_by_group(class_folders):
    config = DataConfig(name="folder", path=str(class_folders), image_size=8)
    kept = [
        set(data.load(replace(config, train_share=share))["train"].ids) for share in (0.1, 0.25, 0.5, 1.0)
    ]
    assert [len(ids) for ids in kept] == [4, 10, 21, 42]
    assert kept[0] < kept[1] < kept[2] < kept[3]
