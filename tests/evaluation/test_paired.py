from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from ttl_jax.evaluation import (
    bootstrap_ci,
    delong,
    fold_difference,
    mcnemar,
    paired_difference,
    paired_permutation,
)


def test_mcnemar_is_a_binomial_or_chi_squared():
    table = {(1, 1): 794, (1, 0): 150, (0, 1): 86, (0, 0): 570}  # Agresti 1990, p. 350
    a, b = (np.repeat([key[side] for key in table], list(table.values())) == 1 for side in (0, 1))
    found = mcnemar(a, b)
    assert (found.only_a, found.only_b) == (150, 86)
    assert found.p == pytest.approx(stats.binomtest(86, 236, 0.5).pvalue)
    corrected = mcnemar(a, b, exact=False)
    assert corrected.statistic == pytest.approx((abs(150 - 86) - 1) ** 2 / 236)
    assert corrected.p == pytest.approx(stats.chi2.sf(corrected.statistic, 1))
    assert mcnemar(a, a).p == 1.0 and mcnemar(a, a, exact=False).p == 1.0


def test_all_exchanges_are_looked_at_where_they_are_few():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 9))
    d = a - b
    sums = [abs(np.dot(signs, d)) for signs in itertools.product((-1, 1), repeat=9)]
    assert paired_permutation(a, b) == pytest.approx(np.mean(np.array(sums) >= abs(d.sum()) - 1e-12))
    scipy = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    )
    assert paired_permutation(a, b) == pytest.approx(scipy.pvalue)


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.4, 0.8])  # p from .8 down to .01
def test_sampled_exchanges_come_near_the_exact_ones(shift):
    random = np.random.default_rng(1)
    a, b = random.normal(size=(2, 14)) + np.array([[shift], [0.0]])
    assert paired_permutation(a, b, resamples=9999) == pytest.approx(
        paired_permutation(a, b, resamples=2**14), abs=0.015
    )


def test_copies_of_a_patient_add_no_certainty():
    random = np.random.default_rng(2)
    a, b = random.normal(size=(2, 10))
    once = paired_permutation(a, b)
    groups = np.repeat(np.arange(10), 6)
    assert paired_permutation(np.repeat(a, 6), np.repeat(b, 6), groups) == pytest.approx(once)
    assert paired_permutation(np.repeat(a, 6), np.repeat(b, 6)) < once


def generated(signal, seeds=3, patients=80, each=2, seed=0):
    random = np.random.default_rng(seed)
    labels = np.repeat(random.integers(2, size=patients), each)
    shared = np.repeat(random.normal(size=patients), each)
    runs = []
    for _ in range(seeds):
        score = signal * labels + shared + 0.3 * random.normal(size=patients * each)
        runs.append(np.stack([-score / 2, score / 2], axis=1))
    return labels, runs, np.repeat(np.arange(patients), each)


def test_one_run_is_near_the_bootstrap_of_a_difference():
    labels, (a,), groups = generated(2.0, seeds=1)
    _, (b,), _ = generated(0.5, seeds=1)
    found = paired_difference(labels, [a], [b], groups)

    def auroc(y, scores):
        return stats.mannwhitneyu(scores[y == 1], scores[y == 0]).statistic / (
            (y == 1).sum() * (y == 0).sum()
        )

    def difference(y, both):
        return auroc(y, both[:, 1]) - auroc(y, both[:, 3]) if 0 < y.sum() < len(y) else None

    slow = bootstrap_ci(labels, np.hstack([a, b]), difference, groups, resamples=300)
    assert found.estimate == pytest.approx(slow.estimate)
    assert (found.low, found.high) == pytest.approx((slow.low, slow.high), abs=0.03)
    assert found.p < 0.01 and found.caveat == "one seed: says nothing of other seeds"


def test_one_run_agrees_with_delong_where_examples_are_independent():
    random = np.random.default_rng(8)
    labels = random.integers(2, size=300)
    shared = random.normal(size=300)
    a, b = (signal * labels + shared + random.normal(size=300) for signal in (1.3, 0.9))
    found = paired_difference(labels, [np.stack([0 * a, a], 1)], [np.stack([0 * b, b], 1)], np.arange(300))
    exact = delong(labels, a, b)
    assert found.estimate == pytest.approx(exact.difference)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.002)
    assert found.variance == pytest.approx(exact.covariance[0, 0] + exact.covariance[1, 1]
                                           - 2 * exact.covariance[0, 1])  # fmt: skip
    assert found.p == pytest.approx(exact.p, rel=0.1)


def test_a_large_difference_survives_a_correction_for_many():
    labels, a, groups = generated(4.0, seeds=6, seed=6)
    found = paired_difference(labels, a, [run[::-1] for run in a], groups)
    assert found.p * 1000 < 0.01 and found.caveat is None


def test_nothing_is_found_where_there_is_nothing():
    labels, a, groups = generated(1.0, seed=4)
    found = paired_difference(labels, a, [a[1], a[2], a[0]], groups)
    assert found.low <= 0 <= found.high and found.p > 0.3
    same = paired_difference(labels, a, a, groups)
    assert (same.estimate, same.low, same.high, same.p, same.caveat) == (0.0, 0.0, 0.0, 1.0, None)


def test_runs_that_disagree_widen_the_interval():
    labels, a, groups = generated(1.5, seed=5)
    noise = [a[0], -a[1] * 0.01, a[2]]
    calm = paired_difference(labels, a, [run * 0 for run in a], groups)
    wild = paired_difference(labels, noise, [run * 0 for run in a], groups)
    assert wild.high - wild.low > 2 * (calm.high - calm.low)


def test_perfect_runs_that_are_not_the_same_leave_it_open():
    labels = np.repeat([0, 1], 20)
    perfect = np.stack([0 * labels, labels + np.linspace(0, 0.4, 40)], axis=1)
    found = paired_difference(labels, [perfect] * 3, [perfect * 2] * 3, np.arange(40))
    assert (found.estimate, found.low, found.p) == (0.0, None, None)
    assert found.caveat == "no variance can be estimated"
    constant = paired_difference(labels, [perfect] * 3, [perfect * 0] * 3, np.arange(40))
    assert constant.estimate == 0.5 and constant.p is None and constant.caveat == found.caveat


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_the_p_value_is_below_a_level_exactly_where_its_interval_excludes_zero(seeds):
    for seed in range(30):
        labels, a, groups = generated(1.0, seeds, patients=40, seed=seed)
        _, b, _ = generated(1.0 + 0.02 * seed, seeds, patients=40, seed=seed + 100)
        b = [np.where(labels[:, None] == 0, run, run + [0, 0.1 * seed]) for run in b]
        for level in (0.5, 0.95):
            found = paired_difference(labels, a, b, groups, level=level)
            assert (found.p < 1 - level) == (found.low > 0 or found.high < 0)
        at_zero = paired_difference(labels, a, b, groups, level=1 - found.p)
        assert min(abs(at_zero.low), abs(at_zero.high)) < 1e-9


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="pairs are needed"):
        paired_difference(np.zeros(2), [], [], np.zeros(2))
    with pytest.raises(ValueError, match="not on the same examples"):
        mcnemar(np.ones(3, bool), np.ones(4, bool))
    with pytest.raises(ValueError, match="3 values and 2 groups"):
        paired_permutation(np.ones(3), np.zeros(3), np.zeros(2))


def test_folds_share_training_examples():
    differences = [0.02, 0.05, 0.01, 0.04, -0.01]
    plain = fold_difference(differences, 0.0, groups=90, seeds=2)  # without correction: Student's test
    student = stats.ttest_1samp(differences, 0.0)
    assert plain.p == pytest.approx(student.pvalue)
    assert (plain.low, plain.high) == pytest.approx(tuple(student.confidence_interval(0.95)))
    found = fold_difference(differences, 0.25, groups=90, seeds=2)
    t = np.mean(differences) / np.sqrt((1 / 5 + 1 / 4) * np.var(differences, ddof=1))
    assert found.p == pytest.approx(2 * stats.t.sf(t, 4)) and found.p > plain.p
    assert fold_difference([0.1, np.nan], 0.25, groups=9, seeds=1).p is None
    assert fold_difference([0.0, 0.0], 0.25, groups=9, seeds=1).p == 1.0
    assert fold_difference([0.1, 0.1], 0.25, groups=9, seeds=1).p is None  # proves nothing
