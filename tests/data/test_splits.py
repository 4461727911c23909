import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttl_jax.data.splits.splits import collect, hold_out, limit, straddling
from ttl_jax.errors import UserError

FRACTIONS = {"test": 0.15, "val": 0.15}


@st.composite
def cohorts(draw):
    """(labels, groups): patients with 1 to 6 images; the label is mostly the patient's."""
    classes = draw(st.integers(2, 4))
    patients = draw(st.integers(3 * classes, 80))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    sizes = rng.integers(1, 7, patients)
    groups = np.repeat([f"p{number}" for number in range(patients)], sizes)
    own = np.concatenate([np.arange(classes), rng.integers(0, classes, patients - classes)])
    labels = np.repeat(own, sizes)
    noisy = rng.random(len(labels)) < 0.1
    labels[noisy] = rng.integers(0, classes, noisy.sum())
    labels[:classes] = np.arange(classes)
    return labels.astype(np.int32), groups


@settings(max_examples=60, deadline=None)
@given(cohorts(), st.integers(0, 1000))
def test_no_group_straddles(cohort, seed):
    labels, groups = cohort
    splits = hold_out(labels, groups, FRACTIONS, seed)
    assert set(splits) <= {"train", "val", "test"}
    for group in np.unique(groups):
        assert len(set(splits[groups == group])) == 1
    assert straddling(groups, splits) == {}


@settings(max_examples=60, deadline=None)
@given(cohorts(), st.integers(0, 1000))
def test_every_stratum_has_its_share(cohort, seed):
    labels, groups = cohort
    splits = hold_out(labels, groups, FRACTIONS, seed)
    strata = {}
    for group in collect(labels, groups):
        strata.setdefault(group.stratum, []).append(group)
    for members in strata.values():
        everyone = np.concatenate([np.array(group.members) for group in members])
        largest = max(len(group.members) for group in members)
        for name, share in FRACTIONS.items():
            got = (splits[everyone] == name).sum()
            # half a group and the half image left over by another stratum, or one group at least
            assert got <= max(share * len(everyone) + largest / 2 + 0.5 + 1e-6, largest)
            if len(members) >= 3:
                assert got >= 1
        if len(members) >= 3:
            assert (splits[everyone] == "train").any()


@settings(max_examples=40, deadline=None)
@given(cohorts(), st.integers(0, 1000), st.randoms(use_true_random=False))
def test_the_order_of_the_files_does_not_matter(cohort, seed, random):
    labels, groups = cohort
    shuffled = list(range(len(groups)))
    random.shuffle(shuffled)
    splits = hold_out(labels, groups, FRACTIONS, seed)
    assert np.array_equal(hold_out(labels[shuffled], groups[shuffled], FRACTIONS, seed),
                          splits[shuffled])  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(cohorts(), st.integers(0, 1000), st.data())
def test_limits_are_nested_whole_groups(cohort, seed, data):
    labels, groups = cohort
    sizes = sorted(data.draw(st.lists(st.integers(4, len(groups)), min_size=2, max_size=4)))
    chosen = [set(limit(labels, groups, size, seed).tolist()) for size in sizes]
    for smaller, larger in zip(chosen, chosen[1:], strict=False):
        assert smaller <= larger
    for positions, size in zip(chosen, sizes, strict=True):
        kept = np.isin(np.arange(len(groups)), list(positions))
        assert not set(groups[kept]) & set(groups[~kept])
        assert set(labels[kept]) >= {group.stratum for group in collect(labels, groups)}
        # six images at most in a group; at least the four strata's first groups
        assert size - 6 < len(positions) <= max(size, 4 * 6)


def test_shares_of_single_image_groups_are_exact_to_one_image():
    labels = np.repeat([0, 1, 2], [700, 200, 100]).astype(np.int32)
    splits = hold_out(labels, np.arange(1000).astype(str), FRACTIONS, 0)
    for value, total in enumerate((700, 200, 100)):
        for name in ("val", "test"):
            assert abs((splits[labels == value] == name).sum() - 0.15 * total) <= 0.5


@pytest.mark.parametrize("classes", [2, 3, 10, 37])
def test_rounding_does_not_add_up_over_classes(classes):
    labels = np.repeat(np.arange(classes), 10).astype(np.int32)
    splits = hold_out(labels, np.arange(10 * classes).astype(str), FRACTIONS, 0)
    for name in ("val", "test"):
        assert abs((splits == name).sum() - 1.5 * classes) <= 0.5
        assert set(np.bincount(labels[splits == name])) <= {1, 2}


def sizes_of_patients():
    """150 patients with 1 to 73 images, most with few."""
    sizes = np.random.default_rng(0).lognormal(1.5, 1.2, 150)
    return np.clip(np.round(sizes), 1, 73).astype(int)


def labels_of_patients(sizes, task):
    rng = np.random.default_rng(1)
    if task == "multiclass":
        return np.repeat((rng.random(len(sizes)) < 0.3).astype(np.int32), sizes)
    labels = np.repeat(rng.random((len(sizes), 6)) < np.geomspace(0.05, 0.5, 6), sizes, axis=0)
    return np.where(rng.random(labels.shape) < 0.2, ~labels, labels).astype(np.float32)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_chance_to_be_held_out_does_not_depend_on_size(task):
    sizes = sizes_of_patients()
    labels, seeds = labels_of_patients(sizes, task), 300
    groups = np.repeat([f"p{number:03}" for number in range(len(sizes))], sizes)
    first = np.cumsum(sizes) - sizes
    tertile = np.argsort(np.argsort(sizes, kind="stable")) * 3 // len(sizes)
    splits = np.stack([hold_out(labels, groups, FRACTIONS, seed)[first] for seed in range(seeds)])
    largest = np.argsort(-sizes)[:15]  # 25 to 73 images
    for name, share in FRACTIONS.items():
        for chosen in (tertile == 0, tertile == 1, tertile == 2, largest):
            held = (splits[:, chosen] == name).mean()
            spread = np.sqrt(share * (1 - share) / splits[:, chosen].size)
            assert abs(held - share) < 4 * spread, (name, held)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_large_patients_do_not_upset_the_shares(task):
    sizes = sizes_of_patients()
    labels = labels_of_patients(sizes, task)
    groups = np.repeat([f"p{number:03}" for number in range(len(sizes))], sizes)
    kinds = np.eye(2)[labels] if task == "multiclass" else labels
    off, off_kinds = [], []
    for seed in range(20):
        for name, share in FRACTIONS.items():
            held = hold_out(labels, groups, FRACTIONS, seed) == name
            off.append(abs(held.mean() - share))
            off_kinds.append(np.abs(kinds[held].sum(0) / kinds.sum(0) - share).max())
    assert max(off) < 0.02 and np.mean(off_kinds) < 0.03


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("size", [1, 3])
def test_a_rare_class_is_in_train_before_anywhere_else(several, size):
    """Patients of one size; two of them, then three, have the rare class."""
    for rare in (1, 2, 3):
        own = np.arange(40) < rare
        labels = np.repeat(own, size).astype(np.int32)
        if several:
            labels = np.stack([labels, np.repeat(np.arange(40) % 2, size)], axis=1).astype(np.float32)
        groups = np.repeat([f"p{number}" for number in range(40)], size)
        for seed in range(60):
            splits = hold_out(labels, groups, FRACTIONS, seed)
            having = set(splits[: rare * size].tolist())
            assert "train" in having
            if not several:
                assert having == {1: {"train"}, 2: {"train", "test"}, 3: {"train", "val", "test"}}[rare]


def test_a_class_that_only_patients_of_rarer_classes_have_is_in_train():
    # classes 1 (one patient's) and 2 (two patients', with class 1 or 3 beside it)
    labels = np.array([0] * 40 + [1, 2] + [3, 2] + [3] * 5, np.int32)
    groups = np.array([*(f"p{number}" for number in range(40)), "a", "a", "b", "b", *"cdefg"])
    for seed in range(60):
        splits = hold_out(labels, groups, FRACTIONS, seed)
        assert set(labels[splits == "train"]) == {0, 1, 2, 3}


def test_limit_keeps_the_shares_of_the_classes():
    labels = np.repeat([0, 1], [900, 100]).astype(np.int32)
    chosen = limit(labels, np.arange(1000).astype(str), 100, 0)
    assert len(chosen) == 100
    assert abs((labels[chosen] == 1).sum() - 10) <= 1


def test_seeds_give_different_splits():
    labels, groups = np.zeros(100, np.int32), np.arange(100).astype(str)
    tests = [frozenset(np.flatnonzero(hold_out(labels, groups, FRACTIONS, seed) == "test"))
             for seed in range(5)]  # fmt: skip
    assert len(set(tests)) == 5


def test_a_group_of_half_the_images_stays_in_train():
    groups = np.array(["big"] * 50 + [f"p{number}" for number in range(50)])
    for seed in range(20):
        splits = hold_out(np.zeros(100, np.int32), groups, FRACTIONS, seed)
        assert splits[0] == "train"
        assert (splits == "test").sum() == 15


def test_stratum_of_several_labels_is_the_rarest_present():
    labels = np.array([[1, 0], [1, 1], [0, np.nan], [1, 0]], np.float32)
    found = {group.name: group.stratum for group in collect(labels, np.array(list("abcd")))}
    assert found == {"a": 0, "b": 1, "c": -1, "d": 0}


def test_a_limit_below_one_image_a_class_is_refused():
    with pytest.raises(UserError, match="train_limit=2.*3 classes"):
        limit(np.arange(9, dtype=np.int32) % 3, np.arange(9).astype(str), 2, 0)


def test_straddling_names_the_splits():
    groups, splits = np.array(["a", "b", "a", "c"]), np.array(["train", "val", "test", "val"])
    assert straddling(groups, splits) == {"a": ("test", "train")}
