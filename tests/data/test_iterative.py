"""Iterative stratification: shares of every label, whole groups, no dependence on the order."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ttl_jax.data.splits.multilabel import deal, known_counts
from ttl_jax.data.splits.splits import hold_out

FRACTIONS = {"test": 0.2, "val": 0.2}


@st.composite
def cohorts(draw):
    """(labels, groups): up to four labels of unequal frequency, one in ten unknown."""
    count, width = draw(st.integers(40, 150)), draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    labels = (rng.random((count, width)) < rng.uniform(0.1, 0.9, width)).astype(np.float32)
    labels[rng.random(labels.shape) < 0.1] = np.nan
    groups = np.array([f"p{number}" for number in rng.integers(0, max(10, count // 2), count)])
    return labels, groups


def worst_share(labels, splits, name):
    """Largest deviation of a label's known positives or negatives in a split from its share, images."""
    chosen = splits == name
    values = np.concatenate([labels == 1, labels == 0], 1)
    return np.abs(values[chosen].sum(0) - FRACTIONS[name] * values.sum(0)).max()


@settings(max_examples=50, deadline=None)
@given(cohorts(), st.integers(0, 100), st.randoms(use_true_random=False))
def test_groups_stay_whole_and_the_order_does_not_matter(cohort, seed, random):
    labels, groups = cohort
    splits = hold_out(labels, groups, FRACTIONS, seed)
    for group in np.unique(groups):
        assert len(set(splits[groups == group])) == 1
    shuffled = list(range(len(groups)))
    random.shuffle(shuffled)
    assert np.array_equal(hold_out(labels[shuffled], groups[shuffled], FRACTIONS, seed), splits[shuffled])


@settings(max_examples=50, deadline=None)
@given(cohorts(), st.integers(0, 100))
def test_every_label_has_about_its_share(cohort, seed):
    labels, groups = cohort
    largest = np.unique(groups, return_counts=True)[1].max()
    splits = hold_out(labels, groups, FRACTIONS, seed)
    for name, share in FRACTIONS.items():
        assert worst_share(labels, splits, name) <= 2 * largest + 3
        assert abs((splits == name).sum() - share * len(groups)) <= 2 * largest + 3


def test_it_is_nearer_to_the_shares_than_chance():
    groups = np.repeat(np.arange(200).astype(str), 2)
    ours, chance = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        labels = (rng.random((400, 8)) < np.geomspace(0.02, 0.5, 8)).astype(np.float32)
        splits = hold_out(labels, groups, FRACTIONS, seed)
        random = np.repeat(rng.permutation(np.repeat(["test", "val", "train"], [40, 40, 120])), 2)
        ours.append(max(worst_share(labels, splits, name) for name in FRACTIONS))
        chance.append(max(worst_share(labels, random, name) for name in FRACTIONS))
    assert np.mean(ours) < 0.6 * np.mean(chance)


def test_one_label_of_single_images_is_shared_exactly():
    counts = np.repeat([[1, 0], [0, 1]], [30, 70], axis=0)
    part = deal(counts, np.ones(100, np.int64), (0.5, 0.3, 0.2), lambda at: at.to_bytes(2, "big"))
    assert np.bincount(part[:30]).tolist() == [15, 9, 6]
    assert np.bincount(part[30:]).tolist() == [35, 21, 14]


def test_unknown_entries_count_for_neither_side():
    labels = np.array([[1, np.nan], [0, 1], [np.nan, 0]], np.float32)
    assert known_counts(labels, [[0, 1], [2]]).tolist() == [[1, 1, 1, 0], [0, 0, 0, 1]]
