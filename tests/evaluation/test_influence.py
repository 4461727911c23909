"""Influences against `score`, DeLong's covariance, and leaving out one patient at a time."""

from __future__ import annotations

import numpy as np
import pytest

from ttl_jax.evaluation import delong_covariance, influence, score
from ttl_jax.evaluation.influence import linearise
from ttl_jax.evaluation.registry import metrics

METRICS = tuple(each.name for each in metrics() if each.terms is not None)
CASES = (("multiclass", 2), ("multiclass", 4), ("multilabel", 3))


def generated(task, classes, patients=60, each=2, seed=0):
    """Three runs of rounded logits, with ties, two images a patient."""
    random = np.random.default_rng(seed)
    shape = (3, patients * each, classes)
    if task == "multiclass":
        labels = np.repeat(random.integers(classes, size=patients), each)
        signal = np.eye(classes)[labels]
    else:
        labels = np.repeat((random.random((patients, classes)) < 0.4).astype(float), each, axis=0)
        signal = labels.copy()
        labels[random.random(labels.shape) < 0.1] = np.nan
    logits = signal + random.normal(size=shape) + np.repeat(random.normal(size=shape[1:])[::each], each, 0)
    return labels, logits.round(1), np.repeat(np.arange(patients), each)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("task", "classes"), CASES)
def test_values_are_those_of_score_and_variances_near_the_jackknife(task, classes, metric):
    labels, logits, groups = generated(task, classes)
    found = influence(labels, logits, groups, metric, task)
    names = [str(place) for place in range(classes)]

    def scored(keep):
        return np.array([score(labels[keep], run[keep], names, task)[metric] for run in logits])

    np.testing.assert_allclose(found.values, scored(np.ones(len(labels), bool)), atol=1e-12)
    left_out = np.array([scored(groups != group) for group in np.unique(groups)])
    count = len(left_out)
    jackknife = np.cov(left_out.T) * (count - 1) ** 2 / count
    ours = found.groups @ found.groups.T
    np.testing.assert_allclose(ours, jackknife, rtol=0.25, atol=0.1 * jackknife.diagonal().mean())
    if metric not in (
        "auroc",
        "auprc",
        "auprc_macro",
    ):  # smooth in the weights: the derivative is nearly the difference
        np.testing.assert_allclose(ours.diagonal(), jackknife.diagonal(), rtol=0.1)


def test_of_independent_examples_it_is_delongs_covariance():
    labels, logits, _ = generated("multiclass", 2)
    found = influence(labels, logits, np.arange(len(labels)))
    aurocs, covariance = delong_covariance(labels, logits[..., 1] - logits[..., 0])
    np.testing.assert_allclose(found.values, aurocs)
    np.testing.assert_allclose(found.groups @ found.groups.T, covariance, atol=1e-15)


def test_auprc_changes_by_its_derivative():
    """Weights of 1 + h on one example, by repeating all others."""
    labels, logits, groups = generated("multiclass", 2, patients=15, each=1, seed=3)
    found = influence(labels, logits, groups, "auprc")
    count, times = len(labels), 4000
    one = found.groups[0]
    kinds = np.bincount(labels)[labels]
    stretch = np.sqrt(kinds / (kinds - 1))
    for place in (0, 4, 9):
        rows = np.concatenate([np.repeat(np.arange(count), times), np.full(times // 100, place)])
        moved = score(labels[rows], logits[0][rows], ["a", "b"], "multiclass")["auprc"] - found.values[0]
        assert moved / 0.01 == pytest.approx((one / stretch)[place], rel=0.05, abs=1e-4)


def test_a_class_of_one_patient_says_nothing_of_its_variance_but_accuracy_does():
    labels, logits, groups = generated("multiclass", 4)
    labels = np.where(groups == 0, 3, labels % 3)
    assert np.isnan(influence(labels, logits, groups, "balanced_accuracy").groups).any()
    assert np.isfinite(influence(labels, logits, groups, "accuracy").groups).all()
    assert np.isnan(influence(labels * 0, logits, groups).values).all()


def test_a_metric_that_has_no_test_is_refused():
    labels, logits, groups = generated("multiclass", 2)
    with pytest.raises(ValueError, match="metric is one of auroc"):
        influence(labels, logits, groups, "ece")
    with pytest.raises(ValueError, match="120 labels and 3 groups"):
        influence(labels, logits, groups[:3])


def test_an_example_whose_label_is_unknown_is_of_no_class():
    labels, logits, _ = generated("multilabel", 2)
    found = linearise(labels, logits[0], "auroc", "multilabel")
    for column, parts in zip(labels.T, found.classes, strict=True):
        assert np.isnan(column).any()
        assert {tuple(part) for part in parts} == {tuple(column == 0), tuple(column == 1)}
