"""What another data set differs in, by hand."""

import numpy as np
import pytest

from ttl_jax.evaluation import Predictions
from ttl_jax.evaluation.shift import BINS, shift


def predicted(labels, task, seed):
    labels = np.asarray(labels)
    names = ("a", "b", "c")
    logits = np.random.default_rng(seed).normal(size=(len(labels), 3))
    ids = np.arange(len(labels)).astype(str)
    return Predictions(ids, ids, labels, logits, names, task)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_prevalence_of_each_class_is_its_share_of_known_labels(task):
    random = np.random.default_rng(0)
    if task == "multiclass":
        before, now = random.choice(3, 80, p=(0.5, 0.3, 0.2)), random.choice(3, 60, p=(0.1, 0.1, 0.8))
        shares = [np.bincount(each, minlength=3) / len(each) for each in (before, now)]
    else:
        before, now = (
            (random.random((n, 3)) < p).astype(float) for n, p in ((80, 0.2), (60, (0.1, 0.5, 0.9)))
        )
        now[:7, 1] = np.nan
        shares = [np.nanmean(each, axis=0) for each in (before, now)]
    found = shift(predicted(before, task, 1), predicted(now, task, 2), 2.0)
    for place, name in enumerate("abc"):
        told = found["prevalence"][name]
        for key, share in zip(("validation", "here"), shares, strict=True):
            assert told[key]["estimate"] == pytest.approx(share[place])
            assert told[key]["low"] < share[place] < told[key]["high"]


def test_histograms_count_calibrated_probabilities():
    random = np.random.default_rng(0)
    held = [predicted(random.integers(3, size=n), "multiclass", n) for n in (80, 60)]
    found = shift(*held, 2.0)["histograms"]
    for key, each in zip(("validation", "here"), held, strict=True):
        chances = np.exp(each.logits / 2) / np.exp(each.logits / 2).sum(axis=1, keepdims=True)
        for place, name in enumerate("abc"):
            expected = np.histogram(chances[:, place], BINS, (0, 1))[0]
            np.testing.assert_array_equal(found[name][key], expected)
