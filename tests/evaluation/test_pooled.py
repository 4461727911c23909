"""A difference over data sets: the formulas written out, statsmodels, and the null simulated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.meta_analysis import combine_effects

from ttl_jax.evaluation import pooled_difference


def written_out(effects, within):
    """Paule and Mandel 1982; Hartung and Knapp 2001, equation 9; Higgins et al. 2009, equation 12."""
    count = len(effects)

    def mean(between):
        weights = 1 / (within + between)
        return (weights * effects).sum() / weights.sum(), weights

    def squares(between):
        middle, weights = mean(between)
        return (weights * (effects - middle) ** 2).sum() - (count - 1)

    between = 0.0 if squares(0.0) <= 0 else optimize.brentq(squares, 0.0, 1e6 * within.max(), xtol=1e-16)
    middle, weights = mean(between)
    error = np.sqrt((weights * (effects - middle) ** 2).sum() / ((count - 1) * weights.sum()))
    apart = stats.t.ppf(0.975, count - 2) * np.sqrt(between + error**2)
    half = stats.t.ppf(0.975, count - 1) * error
    return middle, middle - half, middle + half, middle - apart, middle + apart, np.sqrt(between)


def test_it_is_the_formulas_and_statsmodels_where_that_converges():
    random, agreed = np.random.default_rng(0), 0
    for _ in range(100):
        count = random.integers(3, 9)
        within = 10 ** random.uniform(-5, -3, count)
        effects = 0.01 + random.normal(size=count) * np.sqrt(within + 10 ** random.uniform(-6, -2))
        found = pooled_difference(effects, within)
        figures = (
            found.estimate,
            found.low,
            found.high,
            found.predicted_low,
            found.predicted_high,
            found.tau,
        )
        assert figures == pytest.approx(written_out(effects, within), rel=1e-4, abs=1e-7)
        error = (found.high - found.estimate) / stats.t.ppf(0.975, count - 1)
        assert found.p == pytest.approx(2 * stats.t.sf(abs(found.estimate) / error, count - 1))
        library = combine_effects(100 * effects, 1e4 * within, method_re="pm", use_t=True)
        if library.tau2 > 0 and found.tau > 0:
            agreed += 1
            low, high = library.conf_int()[3]
            assert (found.low, found.high) == pytest.approx((low / 100, high / 100), rel=1e-3, abs=1e-6)
    assert agreed > 40


def test_two_data_sets_are_too_few():
    assert pooled_difference([0.1, 0.2], [1e-4, 1e-4]) is None


def test_the_null_is_rejected_in_five_of_a_hundred_studies_even_with_one_seed():
    random, studies = np.random.default_rng(1), 1000
    for tau in (0.0, 2.0):
        rejected = held = 0
        for _ in range(studies):
            patients = random.uniform(0.5, 3, size=5)
            seeds = random.uniform(0.3, 2, size=5)  # not in the variances that are given
            effects = random.normal(size=5) * np.sqrt(patients + seeds**2 + tau**2)
            found = pooled_difference(effects, patients)
            rejected += found.p < 0.05
            held += found.predicted_low <= tau * random.normal() <= found.predicted_high
        assert stats.binom.ppf(0.001, studies, 0.03) <= rejected <= stats.binom.ppf(0.999, studies, 0.065)
        assert held / studies > 0.9  # approximate: of five data sets tau is hardly known
