"""Coverage asked for is coverage got, by simulation with known truth; too few cases; abstention."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from ttl_jax.evaluation import Predictions, conformal
from ttl_jax.evaluation.conformal import fit_abstention, fit_sets

MEANS = np.array([[0.0, 0.0], [1.6, 0.0], [0.0, 1.2]])  # of three classes of points
SHARES = np.array([0.5, 0.3, 0.2])


def cases(random, n, patients=None):
    """Labels, probabilities of an overconfident network, names and patients of n images.

    With patients, image i is of patient patients[i]; a patient's images share a part of their place.
    """
    groups = np.arange(n) if patients is None else patients
    truth = random.choice(3, size=groups.max() + 1, p=SHARES)
    shared = random.normal(size=(groups.max() + 1, 2)) * np.sqrt(0.6)
    points = MEANS[truth[groups]] + shared[groups] + random.normal(size=(n, 2)) * np.sqrt(0.4)
    logits = 1.7 * (points @ MEANS.T - (MEANS**2).sum(axis=1) / 2 + np.log(SHARES))
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    return truth[groups], chances / chances.sum(axis=1, keepdims=True), random.integers(2**40, size=n), groups


def validation(labels, chances, task="multiclass", ids=None, groups=None, class_names=None):
    """Predictions of these probabilities."""
    logits = np.log(chances) if task == "multiclass" else np.log(chances) - np.log1p(-chances)
    ids = np.arange(len(labels)).astype(str) if ids is None else np.asarray(ids).astype(str)
    names = tuple(map(str, range(chances.shape[1]))) if class_names is None else class_names
    return Predictions(ids, ids if groups is None else groups, labels, logits, names, task)


def coverages(asked, n, repeats, tested=400, **options):
    """The share covered of each of many tests, and class by class."""
    random, whole, each = np.random.default_rng(0), [], []
    for _ in range(repeats):
        labels, chances, names, _ = cases(random, n)
        rule = fit_sets(validation(labels, chances, ids=names), asked, **options)
        labels, chances, names, _ = cases(random, tested)
        got = conformal.covers(rule.sets(chances, names), labels)
        whole.append(got.mean())
        each.append([got[labels == place].mean() for place in range(3)])
    return np.array(whole), np.array(each)


@pytest.mark.parametrize("score", ["threshold", "adaptive"])
@pytest.mark.parametrize("asked, n", [(0.9, 60), (0.8, 150)])
def test_coverage_asked_for_is_coverage_got(score, asked, n):
    got, _ = coverages(asked, n, 600, score=score)
    k = np.ceil((n + 1) * asked)
    expected = k / (n + 1)  # the mean of Beta(k, n + 1 - k)
    error = np.sqrt((expected * (1 - expected) / (n + 2) + expected * (1 - expected) / 400) / 600)
    assert abs(got.mean() - expected) < 4 * error
    low, high = conformal.coverage_band(n, asked, 400)
    inside = ((got >= low) & (got <= high)).mean()
    assert 0.92 <= inside <= 0.99  # 0.95 and what a discrete band holds more; standard error 0.009
    law = stats.betabinom(400, k, n + 1 - k)
    assert np.quantile(got, 0.1) == pytest.approx(law.ppf(0.1) / 400, abs=0.012)


def test_coverage_holds_in_every_class_where_that_is_asked_for():
    _, got = coverages(0.85, 200, 300, by_class=True)
    _, over_all = coverages(0.85, 200, 300)
    for place, share in enumerate(SHARES):
        n = 200 * share  # about: between 0.85 and 0.85 + 1 / (n + 1)
        assert 0.85 - 0.007 < got[:, place].mean() < 0.85 + 1 / (n + 1) + 0.007
    assert over_all.mean(axis=0).min() < 0.80  # what one threshold for all would leave a class with


def test_labels_are_covered_one_by_one():
    random, got = np.random.default_rng(1), []
    for _ in range(300):
        truth, margins = [], []
        for signal in (1.0, 2.5):
            truth.append(random.random(340) < 0.3)
            margins.append(signal * (2 * truth[-1] - 1) + random.normal(size=340))
        labels = np.where(random.random((340, 2)) < 0.2, np.nan, np.stack(truth, axis=1))
        chances = 1 / (1 + np.exp(-2 * np.stack(margins, axis=1)))
        rule = fit_sets(validation(labels[:140], chances[:140], "multilabel"), 0.9, by_class=True)
        sets = rule.sets(chances[140:])
        hits = conformal.covers(sets, labels[140:])
        assert np.isnan(hits).sum() == np.isnan(labels[140:]).sum()
        got.append([np.nanmean(hits[labels[140:, k] == v, k]) for k in (0, 1) for v in (0, 1)])
    shares = np.mean(got, axis=0)
    absent, present = 140 * 0.8 * 0.7, 140 * 0.8 * 0.3
    assert (shares > 0.9 - 0.01).all()
    assert (shares < 0.9 + 1 / (np.array([absent, present, absent, present]) + 1) + 0.01).all()


def test_a_patient_counts_once_however_many_images_there_are():
    """Hard patients have ten images, easy ones two: images taken as patients cover too much."""
    random, ours, naive = np.random.default_rng(2), [], []
    for _ in range(300):
        hard = random.random(280) < 0.3
        images = np.where(hard, 10, 2)
        groups = np.repeat(np.arange(280), images)
        truth = random.integers(2, size=280)[groups]
        patient = random.normal(size=280)[groups] * 0.7
        odds = (2 * truth - 1) * np.where(hard, 0.4, 2.0)[groups] + patient + random.normal(size=len(groups))
        chances = np.stack([1 / (1 + np.exp(2 * odds)), 1 / (1 + np.exp(-2 * odds))], axis=1)
        known = groups < 80
        new = ~known
        weights = 1 / images[groups[new]]  # a random image of a new patient
        for got, given in ((ours, groups[known]), (naive, None)):
            rule = fit_sets(validation(truth[known], chances[known], groups=given), 0.9)
            got.append(np.average(conformal.covers(rule.sets(chances[new]), truth[new]), weights=weights))
    assert 0.9 - 0.006 < np.mean(ours) < 0.9 + 2 / 81 + 0.006
    assert np.mean(naive) > 0.94


def test_the_threshold_is_the_order_statistic():
    chances = np.linspace(0.02, 0.98, 49)
    rule = fit_sets(validation(np.zeros(49, int), np.stack([chances, 1 - chances], axis=1)), 0.9)
    # the 45th of 49 scores -p from below, (49 + 1) * 0.9 = 45: the 5th lowest probability
    assert rule.thresholds.tolist() == pytest.approx([-chances[4]] * 2) and rule.cases.tolist() == [49, 49]


def test_adaptive_scores_by_hand():
    chances = np.array([[0.2, 0.5, 0.3]])
    drawn = conformal._uniform(["a"])[0]
    scores = conformal._scores(chances, "adaptive", ["a"])[0]
    assert scores == pytest.approx([0.8 + 0.2 * drawn, 0.5 * drawn, 0.5 + 0.3 * drawn])
    assert stats.kstest(conformal._uniform([f"image-{n}" for n in range(2000)]), "uniform").pvalue > 0.01
    rule = fit_sets(validation(np.array([0]), chances), 0.4, score="adaptive")
    with pytest.raises(ValueError, match="need the ids"):
        rule.sets(chances)


def test_too_few_cases_and_a_sentence():
    random = np.random.default_rng(3)
    labels, chances, *_ = cases(random, 18)
    rule = fit_sets(validation(labels, chances), 0.95)
    assert rule.sets(chances).all() and conformal.least_cases(0.95) == 19
    assert rule.notes == (
        "a coverage of 0.95 takes 19 patients in validation and there are 18: every set holds all classes",
    )
    labels = np.repeat([0, 1, 2], [40, 40, 8])
    rule = fit_sets(validation(labels, chances[labels], class_names=("a", "b", "c")), 0.9, by_class=True)
    assert rule.sets(chances)[:, 2].all() and np.isfinite(rule.thresholds[:2]).all()
    assert rule.notes == (
        "a coverage of 0.9 takes 9 patients in validation of 'c' and there are 8: every set holds 'c'",
    )
    several = np.stack([np.r_[1.0, np.zeros(29)], np.r_[np.ones(15), np.zeros(15)]], axis=1)
    rule = fit_sets(validation(several, random.random((30, 2)), "multilabel"), 0.9, by_class=True)
    assert [note.partition("every set holds ")[2] for note in rule.notes] == ["the presence of '0'"]
    assert fit_sets(validation(np.zeros(19, int), np.ones((19, 2)) / 2), 0.95).notes == ()


def test_two_classes_do_not_depend_on_the_temperature():
    random = np.random.default_rng(4)
    labels, odds = random.integers(2, size=300), random.normal(size=300)
    sets = []
    for temperature in (0.5, 3.0):
        up = 1 / (1 + np.exp(-odds / temperature))
        chances = np.stack([1 - up, up], axis=1)
        sets.append(fit_sets(validation(labels[:100], chances[:100]), 0.9).sets(chances[100:]))
    np.testing.assert_array_equal(*sets)


def test_sets_of_not_one_class_are_undecided():
    sets = np.array([[True, False, False], [True, True, False], [False, False, False]])
    assert conformal.undecided(sets).tolist() == [False, True, True]
    assert conformal.covers(sets, np.array([0, 2, 1])).tolist() == [1, 0, 0]


def test_abstention_reaches_the_accuracy_and_its_bound_holds():
    random, below, kept = np.random.default_rng(5), 0, []
    grid = np.sort(random.random(200_000))  # confidence beyond 1/2 + g/2 is right with that probability
    for _ in range(400):
        confidence = 0.5 + random.random(150) / 2
        labels = (random.random(150) > confidence).astype(int)
        chances = np.stack([confidence, 1 - confidence], axis=1)
        rule = fit_abstention(validation(labels, chances), 0.9)
        if rule.bound is None:
            continue
        assert rule.accuracy >= 0.9
        abstained = rule.abstains(chances, "multiclass").mean()
        assert abstained == pytest.approx(1 - rule.kept, abs=0.01)  # log and exp round one at the edge
        beyond = 0.5 + grid[0.5 + grid / 2 >= rule.threshold] / 2
        below += beyond.mean() < rule.bound
        kept.append(rule.kept)
    assert len(kept) > 390 and below <= 0.05 * 400 and 0.2 < np.mean(kept) < 0.6


def test_the_bound_is_clopper_and_pearsons_and_counts_patients():
    right = np.r_[np.ones(45, bool), np.zeros(5, bool)]
    least = conformal._least_share(right, np.arange(50), 0.025)
    assert least == pytest.approx(proportion_confint(45, 50, alpha=0.05, method="beta")[0])
    copies = conformal._least_share(np.repeat(right, 4), np.repeat(np.arange(50), 4), 0.025)
    assert copies == pytest.approx(least, abs=0.005)
    assert conformal._least_share(np.ones(40, bool), np.arange(40) // 4, 0.05) == pytest.approx(0.05**0.1)


def test_a_decision_is_left_below_the_threshold_by_hand():
    rule = conformal.Abstention(0.9, 0.75, 0.5, 0.9, 0.8)
    chances = np.array([[0.75, 0.25, 0.0], [0.125, 0.625, 0.25], [0.0, 0.125, 0.875]])
    np.testing.assert_array_equal(rule.abstains(chances, "multiclass"), [False, True, False])
    each_label = [[False, False, False], [False, True, False], [False, False, False]]
    np.testing.assert_array_equal(rule.abstains(chances, "multilabel"), each_label)


def test_an_accuracy_that_is_not_reached_keeps_nothing():
    rule = fit_abstention(validation(np.array([0, 1, 0, 1]), np.full((4, 2), 0.5)), 0.9)
    assert rule.bound is None and rule.kept == 0 and rule.abstains(np.eye(2), "multiclass").all()
    unknown = np.array([[1, np.nan], [0, 1], [np.nan, 0]])
    chances, groups = np.array([[0.9, 0.5], [0.2, 0.7], [0.5, 0.1]]), np.array(["a", "a", "b"])
    sure = fit_abstention(validation(unknown, chances, "multilabel", groups=groups), 0.9)
    assert (sure.kept, sure.accuracy, sure.threshold) == (1.0, 1.0, pytest.approx(0.7))
