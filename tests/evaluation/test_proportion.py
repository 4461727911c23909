from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from ttl_jax.evaluation import clustered_proportion


def test_without_shared_patients_it_is_wilsons_interval():
    # Newcombe 1998 (Stat. Med. 17:857), table I, method 3: 81 of 263 gives 0.2553 to 0.3662
    found = clustered_proportion(np.arange(263) < 81, np.arange(263))
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert found.estimate == 81 / 263 and found.examples == 263


def test_shared_patients_count_by_the_design_effect():
    random = np.random.default_rng(3)
    groups = random.integers(0, 40, size=200)
    hits = random.random(200) < np.where(random.random(40) < 0.5, 0.9, 0.3)[groups]
    ones = np.ones(200)
    fit = sm.OLS(hits.astype(float), ones)
    plain = fit.fit().bse[0]
    robust = fit.fit(cov_type="cluster", cov_kwds={"groups": groups}).bse[0]
    effective = 200 * (plain / robust) ** 2
    assert effective < 120  # the case has something to show
    # the effect seen rests on so many patients, and is averaged with the worst one; see `intervals`
    sums = np.bincount(groups, weights=hits - hits.mean())
    behind, prior = (sums**2).sum() ** 2 / (sums**4).sum(), stats.norm.ppf(0.975) ** 2 / 2
    patients = len(set(groups))
    effective = 200 / ((behind * 200 / effective + prior * 200 / patients) / (behind + prior))
    tail = 2 * stats.norm.sf(stats.t.ppf(0.975, patients - 1))
    low, high = proportion_confint(hits.mean() * effective, effective, alpha=tail, method="wilson")
    found = clustered_proportion(hits, groups)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


@pytest.mark.parametrize("errors", [1, 2, 3, 20])
def test_with_few_errors_no_less_than_the_exact_interval_of_twice_the_error(errors):
    # Brown, Cai & DasGupta 2001: Wilson's upper limit for 17 of 18 is .990, and a true .993 is missed by
    # one sample in ten
    found = clustered_proportion(np.arange(60) >= errors, np.arange(60))
    low, high = proportion_confint(60 - errors, 60, method="wilson")
    exact = proportion_confint(60 - errors, 60, alpha=0.1, method="beta")[1]
    assert (found.low, found.high) == pytest.approx((low, max(high, exact)), rel=1e-9)
    assert (exact > high) == (errors < 20)


def test_where_all_are_hits_only_the_patients_count():
    found = clustered_proportion(np.ones(60, bool), np.repeat(np.arange(20), 3))
    assert (found.low, found.high) == pytest.approx(proportion_confint(20, 20, method="wilson"))
    assert found.low < 0.9 and clustered_proportion(np.empty(0, bool), np.empty(0)).estimate is None
    with pytest.raises(ValueError, match="hits"):
        clustered_proportion(np.ones(3, bool), np.arange(4))
