from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ttl_jax.evaluation import bayesian_signed_rank, cliques, friedman_nemenyi, holm

# AUROC of C4.5 and three variants on 14 data sets: Demsar 2006, JMLR 7:1-30, table 6
DEMSAR = np.array([
    [.763, .768, .771, .798], [.599, .591, .590, .569], [.954, .971, .968, .967],
    [.628, .661, .654, .657], [.882, .888, .886, .898], [.936, .931, .916, .931],
    [.661, .668, .609, .685], [.583, .583, .563, .625], [.775, .838, .866, .875],
    [1.0, 1.0, 1.0, 1.0], [.940, .962, .965, .962], [.619, .666, .614, .669],
    [.972, .981, .975, .975], [.957, .978, .946, .970],
])  # fmt: skip


def test_demsars_example():
    found = friedman_nemenyi(DEMSAR)
    # the paper ranked what it prints rounded to three decimals: half a rank moves in one data set
    np.testing.assert_allclose(found.ranks, [3.143, 2.000, 2.893, 1.964], atol=0.5 / 14 + 5e-4)
    assert found.critical_difference == pytest.approx(1.25, abs=5e-3)
    assert found.p == pytest.approx(stats.chi2.sf(found.statistic, 3))
    # "even the difference between the best and the worst is smaller", at 5 %
    assert found.pairwise.min() > 0.05
    assert cliques(found.ranks, found.critical_difference) == ((0, 3),)
    # its figure 1(a), at 10 %: C4.5 is worse than two of the others, C4.5+cf belongs to both groups
    at_a_tenth = friedman_nemenyi(DEMSAR, alpha=0.10)
    assert at_a_tenth.critical_difference == pytest.approx(1.12, abs=5e-3)
    assert cliques(at_a_tenth.ranks, at_a_tenth.critical_difference) == ((0, 2), (2, 3))


def test_pairs_are_judged_by_the_studentised_range():
    found = friedman_nemenyi(DEMSAR)
    for one in range(4):
        for other in range(4):
            q = abs(found.ranks[one] - found.ranks[other]) / np.sqrt(4 * 5 / (6 * 14)) * np.sqrt(2)
            expected = stats.studentized_range.sf(q, 4, np.inf) if one != other else 1.0
            assert found.pairwise[one, other] == pytest.approx(expected, abs=1e-6)


def test_all_alike_and_too_few():
    assert friedman_nemenyi(np.ones((3, 4))).p == 1.0
    with pytest.raises(ValueError, match="2 blocks and 3 treatments"):
        friedman_nemenyi(np.ones((5, 2)))


def test_cliques_leave_out_what_stands_alone():
    assert cliques(np.array([4.0, 1.0, 1.5, 3.8]), 1.0) == ((0, 1), (2, 3))
    assert cliques(np.array([1.0, 3.0, 5.0]), 1.0) == ()


def test_holm_steps_down():
    p = np.array([0.01, 0.04, 0.03, 0.005])
    # by hand: sorted .005*4, .01*3, .03*2, .04*1, then the running maximum
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, 0.02])
    assert len(holm([])) == 0 and holm([0.7]) == pytest.approx(0.7)
    np.testing.assert_allclose(holm([0.6, 0.9]), [1.0, 1.0])
    many = np.random.default_rng(0).random(40) ** 3
    np.testing.assert_allclose(holm(many), multipletests(many, method="holm")[1])


def test_one_data_set_has_a_closed_form():
    # differences 0 (weight Beta(.5, 1)) and d = 3 rope: only the pair (0, 0) lies inside the rope, so
    # "alike" wins where w0^2 > 1/2; the distribution function of Beta(.5, 1) is sqrt
    found = bayesian_signed_rank(np.array([3.0]), np.array([0.0]), 1.0, samples=400_000)
    assert found.alike == pytest.approx(1 - 0.5**0.25, abs=3e-3)
    assert found.a == pytest.approx(0.5**0.25, abs=3e-3) and found.b == 0.0


def test_every_pair_is_weighed_as_the_paper_says():
    random = np.random.default_rng(3)
    a, b, rope = random.normal(0.5, 1, size=8), random.normal(size=8), 0.4
    d = np.concatenate([[0.0], a - b])
    wins = np.zeros(3)
    for weights in np.random.default_rng(9).dirichlet([0.5, *np.ones(8)], size=4000):
        masses = np.zeros(3)
        for i in range(9):
            for j in range(9):
                mean = (d[i] + d[j]) / 2
                masses[0 if mean > rope else 2 if mean < -rope else 1] += weights[i] * weights[j]
        wins[masses.argmax()] += 1
    found = bayesian_signed_rank(a, b, rope, samples=40_000)
    np.testing.assert_allclose([found.a, found.alike, found.b], wins / 4000, atol=0.03)


def test_the_rope_takes_what_is_small():
    a = np.linspace(0.001, 0.004, 12)
    assert bayesian_signed_rank(a, np.zeros(12), 0.01).alike > 0.99
    assert bayesian_signed_rank(a, np.zeros(12), 0.0).a > 0.99
    turned = bayesian_signed_rank(np.zeros(12), a, 0.0)
    assert turned.b > 0.99 and turned.alike == 0.0
    with pytest.raises(ValueError, match="rope"):
        bayesian_signed_rank(a, a, -1.0)
