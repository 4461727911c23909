"""Moderated variances: Smyth's formulas written out, and what they win and risk."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, special, stats

from ttl_jax.evaluation import Component, Components, difference_of, moderated, variance_prior


def test_the_prior_is_that_of_the_papers_formulas():
    random = np.random.default_rng(0)
    freedoms = random.integers(2, 6, size=80).astype(float)
    true = 3.0 * 8 / random.chisquare(8, size=80)
    variances = true * random.chisquare(freedoms) / freedoms
    e = np.log(variances) - special.digamma(freedoms / 2) + np.log(freedoms / 2)
    excess = np.mean((e - e.mean()) ** 2 * 80 / 79 - special.polygamma(1, freedoms / 2))
    half = optimize.brentq(lambda x: special.polygamma(1, x) - excess, 1e-3, 1e4)
    found = variance_prior(variances, freedoms)
    assert found.freedom == pytest.approx(2 * half)
    assert found.variance == pytest.approx(np.exp(e.mean() + special.digamma(half) - np.log(half)))
    none = variance_prior(np.append(variances, [0.0, np.nan]), np.append(freedoms, [2.0, 0.0]))
    assert none == found and variance_prior(variances[:2], freedoms[:2]) is None


def test_variances_that_are_all_the_same_are_taken_together():
    random = np.random.default_rng(1)
    found = variance_prior(2.0 * random.chisquare(4, size=3000) / 4, np.full(3000, 4.0))
    assert found.variance == pytest.approx(2.0, rel=0.05) and found.freedom > 50
    true = 2.0 * 5 / random.chisquare(5, 3000)
    scattered = variance_prior(true * random.chisquare(4, 3000) / 4, np.full(3000, 4.0))
    assert scattered.freedom == pytest.approx(5, rel=0.25)
    assert scattered.variance == pytest.approx(2.0, rel=0.1)


def components(variances, seeds=3):
    return [Components(0.01, Component(1e-5, 99.0), float(v), seeds - 1, seeds, 100) for v in variances]


def test_the_posterior_weighs_by_the_degrees_of_freedom():
    variances = np.random.default_rng(2).chisquare(2, size=40) * 1e-4
    prior = variance_prior(variances, np.full(40, 2.0))
    for most, borrowed in ((math.inf, prior.freedom), (1.0, min(prior.freedom, 2.0))):
        made = moderated(components(variances), most)
        assert [each.seed_freedom for each in made] == pytest.approx([min(2 + borrowed, 80)] * 40)
        share = 1.0 if math.isinf(borrowed) else borrowed / (2 + borrowed)
        expected = share * prior.variance + (1 - share) * variances
        assert [each.seed_variance for each in made] == pytest.approx(expected)
    still = moderated([*components(variances), *components([0.0])])[-1]
    assert (still.seed_variance, still.seed_freedom) == (0.0, 2)
    assert moderated(components(variances[:2])) == components(variances[:2])


def family(random, deviations, seeds):
    """45 differences of strategies that are all alike, from seeds alone."""
    runs = random.normal(size=(seeds, len(deviations))) * deviations
    return [
        Components(float(run.mean()), Component(0.0, 99.0), float(run.var(ddof=1)), seeds - 1, seeds, 100)
        for run in runs.T
    ]


@pytest.mark.parametrize("kind", ["equal", "scattered", "one is far off"])
def test_moderation_keeps_its_level_and_wins_power(kind):
    random, studies, alpha = np.random.default_rng(3), 60, 0.05
    hits, least, unlimited, gained, own = 0, 0, 0, 0, 0
    for _ in range(studies):
        deviations = np.full(45, 0.01)
        if kind == "scattered":
            deviations *= np.exp(0.7 * random.normal(size=45))
        if kind == "one is far off":
            deviations[7] = 0.07
        found = family(random, deviations, 3)
        ps = np.array([difference_of(each).p for each in moderated(found)])
        hits, least = hits + (ps < alpha).sum(), least + (ps.min() < alpha / 45)
        if kind == "one is far off":
            unlimited += min(difference_of(each).p for each in moderated(found, math.inf)) < alpha / 45
        moved = [Components(each.estimate + 0.03, *list(vars(each).values())[1:]) for each in found[:5]]
        own += sum(difference_of(each).p < alpha for each in moved)
        gained += sum(difference_of(each).p < alpha for each in moderated(moved + found[5:])[:5])
    assert hits / (45 * studies) < 0.065 and gained > own
    most = stats.binom.ppf(0.999, studies, 0.06)
    assert least <= most
    assert (unlimited > most) == (kind == "one is far off")  # why the prior's weight has a limit
