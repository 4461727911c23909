from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from ttl_jax.evaluation import bootstrap_ci, score


def grouped(groups: int = 40, each: int = 5, seed: int = 0):
    """Two classes; all images of a patient share the label and most of the score."""
    random = np.random.default_rng(seed)
    labels = np.repeat(random.integers(2, size=groups), each)
    score_of = np.repeat(random.normal(size=groups), each) + labels
    scores = (score_of + 0.1 * random.normal(size=groups * each)).round(2)
    return labels, scores, np.repeat(np.arange(groups), each)


def sklearn_auroc(labels, scores):
    return roc_auc_score(labels, scores) if len(set(labels)) == 2 else None


def test_named_metrics_equal_the_same_metric_as_a_function():
    labels, scores, groups = grouped()
    logits = np.stack([np.zeros_like(scores), scores], axis=1)
    plain = {"resamples": 200, "seed": 3, "method": "percentile"}
    fast = bootstrap_ci(labels, scores, "auroc", groups, **plain)
    slow = bootstrap_ci(labels, scores, sklearn_auroc, groups, **plain)
    assert (fast.low, fast.high, fast.estimate) == pytest.approx((slow.low, slow.high, slow.estimate))
    from_logits = bootstrap_ci(labels, logits, "auroc", groups, **plain)
    assert (from_logits.low, from_logits.high) == pytest.approx((fast.low, fast.high))
    share = bootstrap_ci(labels, logits, "accuracy", groups, **plain)
    same = bootstrap_ci(labels, scores > 0, lambda y, said: (y == said).mean(), groups, **plain)
    assert (share.low, share.high) == pytest.approx((same.low, same.high))


def test_many_classes_and_labels_estimate_what_score_does():
    random = np.random.default_rng(2)
    labels = random.integers(3, size=90)
    logits = random.normal(size=(90, 3)) + np.eye(3)[labels]
    names = ("a", "b", "c")
    table = random.integers(2, size=(90, 3)).astype(float)
    table[random.random((90, 3)) < 0.2] = np.nan
    table[:, 2] = np.where(np.isnan(table[:, 2]), np.nan, 1.0)  # the last label cannot be ranked
    for truth, task in ((labels, "multiclass"), (table, "multilabel")):
        found = score(truth, logits, names, task)
        for metric in ("auroc", "accuracy"):
            interval = bootstrap_ci(truth, logits, metric, task=task, resamples=100)
            assert interval.estimate == pytest.approx(found[metric])
            assert interval.low < interval.estimate < interval.high
            slow = bootstrap_ci(
                truth, logits, lambda y, z: score(y, z, names, task)[metric], resamples=100  # noqa: B023
            )  # fmt: skip
            assert (interval.low, interval.high) == pytest.approx((slow.low, slow.high))


def test_the_width_of_an_accuracy_interval_is_that_of_the_binomial():
    right = np.arange(400) < 320
    found = bootstrap_ci(np.ones(400), right.astype(float), lambda y, z: (y == z).mean())
    half = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)
    assert found.groups == 400 and found.level == 0.95


def test_repeated_images_of_a_patient_add_no_certainty():
    random = np.random.default_rng(5)
    labels = random.integers(2, size=60)
    scores = random.normal(size=60) + labels
    once = bootstrap_ci(labels, scores, "auroc", np.arange(60), seed=1)
    copies = [np.repeat(array, 8) for array in (labels, scores, np.arange(60))]
    clustered = bootstrap_ci(copies[0], copies[1], "auroc", copies[2], seed=1)
    naive = bootstrap_ci(copies[0], copies[1], "auroc", seed=1)
    assert (clustered.low, clustered.high) == pytest.approx((once.low, once.high))
    assert naive.high - naive.low < 0.5 * (once.high - once.low)


def test_resamples_that_lose_a_class_are_counted():
    labels = np.array([1, 0, 0, 0, 0, 0])
    found = bootstrap_ci(labels, np.arange(6.0), "auroc", resamples=2000)
    # the one positive is lost with probability (5/6)^6 = 0.335, the negatives hardly ever
    assert found.undefined / found.resamples == pytest.approx((5 / 6) ** 6, abs=0.05)
    assert found.estimate == 0.0 and found.low is None  # 0 in every resample: no width


def test_no_interval_without_groups_to_draw_from():
    found = bootstrap_ci(np.array([0, 1]), np.array([0.1, 0.9]), "auroc", np.array(["p", "p"]))
    assert (found.estimate, found.low, found.high, found.groups) == (1.0, None, None, 1)
    alike = bootstrap_ci(np.zeros(9, int), np.arange(9.0), "auroc")
    assert (alike.estimate, alike.low, alike.high) == (None, None, None)


def test_the_seed_decides():
    labels, scores, groups = grouped()
    first, again, other = (bootstrap_ci(labels, scores, "auroc", groups, seed=s) for s in (0, 0, 1))
    assert first == again
    assert first != other


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="'auroc', 'accuracy' or a function"):
        bootstrap_ci(np.array([0, 1]), np.zeros(2), "f1")
    with pytest.raises(ValueError, match="2 labels, 3 scores and 2 groups"):
        bootstrap_ci(np.array([0, 1]), np.zeros(3), "auroc")


def test_bca_equals_scipys_on_the_same_draws():
    sample = np.random.default_rng(7).lognormal(size=60)

    def mean(y, _):
        return float(np.mean(y))

    found = bootstrap_ci(sample, sample, mean, method="bca", resamples=2000, seed=1)
    scipy = stats.bootstrap((sample,), np.mean, method="BCa", n_resamples=2000, rng=1).confidence_interval
    assert (found.low, found.high) == pytest.approx((scipy.low, scipy.high), abs=1e-12)
    plain = bootstrap_ci(sample, sample, mean, method="percentile", resamples=2000, seed=1)
    assert found.low > plain.low and found.high > plain.high  # the mean of a skewed sample


def test_bca_of_auroc_by_groups():
    labels, scores, groups = grouped()
    fast = bootstrap_ci(labels, scores, "auroc", groups, method="bca", resamples=300)
    slow = bootstrap_ci(labels, scores, sklearn_auroc, groups, method="bca", resamples=300)
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high))
    perfect = bootstrap_ci(np.array([0, 0, 1, 1]), np.arange(4.0), "auroc", method="bca")
    assert perfect.estimate == 1.0 and (perfect.low, perfect.high) == (None, None)
    with pytest.raises(ValueError, match="'percentile' or 'bca'"):
        bootstrap_ci(labels, scores, "auroc", method="normal")
