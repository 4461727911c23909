"""The influence of an example is the derivative of the figure by its weight."""

from __future__ import annotations

import numpy as np
import pytest

from ttl_jax.evaluation import delong_covariance, score
from ttl_jax.evaluation.influence import linearise
from ttl_jax.evaluation.registry import metrics

METRICS = tuple(each.name for each in metrics() if each.terms is not None)
COPIES = 100


def sample(task, classes, n=40):
    random = np.random.default_rng(classes)
    if task == "multiclass":
        labels = random.integers(classes, size=n)
        return labels, (random.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels]).round(1)
    labels = random.integers(2, size=(n, classes)).astype(float)
    logits = (random.normal(size=(n, classes)) + 2 * labels - 1).round(1)
    labels[random.random((n, classes)) < 0.2] = np.nan
    return labels, logits


@pytest.mark.parametrize(("task", "classes"), [("multiclass", 2), ("multiclass", 4), ("multilabel", 3)])
def test_it_is_what_one_more_copy_among_many_changes(task, classes):
    labels, logits = sample(task, classes)  # with ties
    names = [str(place) for place in range(classes)]
    whole = np.repeat(np.arange(len(labels)), COPIES)
    base = score(labels, logits, names, task)
    for example in (0, 7, 33):
        more, less = np.append(whole, example), np.delete(whole, example * COPIES)
        up, down = (score(labels[rows], logits[rows], names, task) for rows in (more, less))
        for metric in METRICS:
            found = linearise(labels, logits, metric, task)
            assert found.estimate == pytest.approx(base[metric], abs=1e-12)
            slope = (up[metric] - down[metric]) / 2 * COPIES
            assert found.values[example] == pytest.approx(slope, abs=1e-4), metric
            assert abs(found.values.sum()) < 1e-8


def test_the_variance_of_auroc_is_delongs():
    labels, logits = sample("multiclass", 2, 300)
    found = linearise(labels, logits, "auroc")
    odds = logits[:, 1] - logits[:, 0]
    _, covariance = delong_covariance(labels, odds[None])
    assert found.values @ found.values == pytest.approx(float(covariance), rel=0.02)


def test_what_is_not_defined_or_known():
    assert linearise(np.zeros(5, int), np.zeros((5, 2)), "auroc") is None
    assert linearise(np.zeros(5, int), np.zeros((5, 2)), "mcc") is None
    assert linearise(np.empty(0, int), np.empty((0, 2)), "accuracy") is None
    with pytest.raises(ValueError, match="not 'ece'"):
        linearise(np.zeros(5, int), np.zeros((5, 2)), "ece")
