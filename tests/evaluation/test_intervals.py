"""Intervals of one model: Wilson's and Newcombe's where these are known, a width always, coverage."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from ttl_jax.evaluation import Predictions, intervals, intervals_of, score_interval
from ttl_jax.evaluation.influence import Linearised
from ttl_jax.evaluation.registry import metrics

METRICS = tuple(each.name for each in metrics() if each.terms is not None)
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "validity_intervals.py"


def two_classes(n=60, signal=1.5, seed=0):
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    scores = signal * (labels - 0.5) + random.normal(size=n)
    return labels, np.stack([np.zeros(n), scores], axis=1)


def test_accuracy_of_independent_examples_is_wilsons():
    labels, logits = two_classes(signal=0.5)
    right = int((logits.argmax(axis=1) == labels).sum())
    found = score_interval(labels, logits, "accuracy")
    assert (found.low, found.high) == pytest.approx(proportion_confint(right, 60, method="wilson"))
    eleven = score_interval(np.arange(11) % 2, 9.0 * np.eye(2)[np.arange(11) % 2], "accuracy")
    assert (eleven.estimate, eleven.high) == (1.0, 1.0)
    assert eleven.low == pytest.approx(proportion_confint(11, 11, method="wilson")[0])  # .741


def test_perfect_separation_is_newcombes():
    # Newcombe 2006, method 5: (1 - x)^2 = z^2 x (1 - x) (1 + (N - 1) ((1 - x) / (2 - x) + x / (1 + x))) / mn
    found = score_interval(np.repeat([0, 1], 15), np.eye(2)[np.repeat([0, 1], 15)], "auroc")
    x, among = found.low, 14.0
    variance = x * (1 - x) * (1 + among * ((1 - x) / (2 - x) + x / (1 + x))) / 15**2
    assert (1 - x) ** 2 == pytest.approx(1.959964**2 * variance, rel=1e-5)
    assert found.estimate == found.high == 1.0 and 0.8 < found.low < 0.9


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", ["good", "all right", "all wrong", "one class said"])
def test_there_is_a_width_inside_the_range(metric, case):
    labels, logits = two_classes()
    if case in ("all right", "all wrong"):
        logits = np.eye(2)[labels if case == "all right" else 1 - labels] * np.linspace(1, 4, 60)[:, None]
    if case == "one class said":
        logits[:, 0] += 20
    bottom = -1.0 if metric in ("mcc", "kappa") else 0.0
    top = {"brier": 2.0, "loss": np.inf}.get(metric, 1.0)
    for groups in (None, np.arange(60) // 3, np.arange(60) % 7):
        found = score_interval(labels, logits, metric, groups)
        assert bottom <= found.low <= found.estimate <= found.high <= top
        assert found.high - found.low > 1e-3 * (1 if metric != "brier" else found.estimate)


def test_copies_add_nothing_and_patients_count_whole():
    labels, logits = two_classes()
    for metric in METRICS:
        alone = score_interval(labels, logits, metric)
        copied = [np.repeat(array, 8, axis=0) for array in (labels, logits, np.arange(60))]
        grouped = score_interval(*copied[:2], metric, copied[2])
        naive = score_interval(*copied[:2], metric)
        assert grouped.estimate == pytest.approx(alone.estimate, abs=0.01)
        assert 0.7 < (grouped.high - grouped.low) / (alone.high - alone.low) < 1.25, metric
        assert naive.high - naive.low < 0.6 * (alone.high - alone.low), metric


def test_several_runs_add_what_seeds_change():
    labels, logits = two_classes(200)
    random = np.random.default_rng(1)
    held = [
        Predictions(np.arange(200).astype(str), np.arange(200), labels, each, ("a", "b"), "multiclass")
        for each in (logits, logits, logits + random.normal(size=logits.shape))
    ]
    one, same = intervals_of(held[:1]), intervals_of(held[:2])
    assert one["auroc"] == pytest.approx(same["auroc"])
    apart = intervals_of([held[0], held[2]])
    assert apart["auroc"][1] - apart["auroc"][0] > one["auroc"][1] - one["auroc"][0]
    other = Predictions(held[0].ids[::-1], *list(vars(held[0]).values())[1:])
    assert intervals_of([held[0], other]) == {} and set(one) == set(METRICS)


@pytest.mark.parametrize("runs", [2, 3, 10])
def test_two_variances_have_the_degrees_of_freedom_of_their_sum(runs):
    random = np.random.default_rng(0)
    losses, place = random.exponential(size=40), np.arange(40)
    part = Linearised(losses.mean(), (losses - losses.mean()) / 40, ((np.ones(40, bool),),), "share")
    known = intervals.spread(part, place, (0.0, np.inf), 0.95)
    for seeds in (known.seen / 3, 3 * known.seen):
        total = known.seen + seeds  # Satterthwaite 1946
        freedom = total**2 / (known.seen**2 / known.freedom + seeds**2 / (runs - 1))
        half = stats.t.ppf(0.975, freedom) * np.sqrt(total) / part.estimate
        found = intervals._interval(part, place, (0.0, np.inf), 0.95, seeds, runs)
        assert found == pytest.approx((part.estimate * np.exp(-half), part.estimate * np.exp(half)))
    half = stats.t.ppf(0.975, known.freedom) * np.sqrt(known.seen) / part.estimate
    assert intervals._interval(part, place, (0.0, np.inf), 0.95, 0.0, 1)[1] == pytest.approx(
        part.estimate * np.exp(half)
    )


def test_no_interval_of_one_patient_or_one_class():
    labels, logits = two_classes(6)
    assert score_interval(labels, logits, "auroc", np.zeros(6)).low is None
    assert score_interval(np.zeros(6, int), logits, "auroc").estimate is None
    with pytest.raises(ValueError, match="no runs"):
        score_interval(np.array([0, 1]), [], "auroc")
    with pytest.raises(ValueError, match="groups do not fit"):
        score_interval(labels, logits, "auroc", np.zeros(5))


def test_it_covers():
    """Two cells of `bench validity_intervals`; 95 % are seen as below 90 % in 1 of 300."""
    spec = importlib.util.spec_from_file_location("validity_intervals", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.POPULATION = 40_000
    rows = module.interval_coverage(True, 1, samples=150, old_samples=0)
    assert len(rows) == 2 * len(module.METRICS + module.OTHERS)
    for row in rows:
        least = 0.9 if row["metric"] in module.METRICS else 0.85  # of 50 samples
        assert row["coverage"] >= least and row["narrowest"] > 0, (row["metric"], row["coverage"])
    assert "| auroc |" in module.table(rows) and "| auroc |" in module.summary(rows)
