"""The interval between finalists against SciPy's t test."""

import numpy as np
import pytest
from scipy.stats import ttest_ind

from ttl_jax.search import pareto, penalised, rivals


@pytest.mark.parametrize("shift", np.linspace(0, 0.05, 21))
def test_two_finalists_are_told_apart_where_the_t_test_does(shift):
    a, b = [0.84, 0.86, 0.85, 0.87], [value - shift for value in (0.85, 0.83, 0.86)]
    told = ttest_ind(a, b, alternative="greater").pvalue < 0.05
    assert rivals({12: a, 14: b}) == ((12,) if told else (12, 14))


def test_the_shifts_above_lie_on_both_sides():
    assert len({len(rivals({1: [0.8, 0.82], 2: [0.8 - s, 0.82 - s]})) for s in (0.0, 0.2)}) == 2


def test_one_seed_says_nothing_and_a_failed_unit_is_out():
    assert rivals({4: [0.9], 8: [0.1]}) == (4, 8)
    assert rivals({4: [0.9, 0.9], 8: [float("nan"), 0.99]}) == (4,)
    assert rivals({}) == ()
    assert rivals({4: [0.9, 0.9], 8: [0.9, 0.9]}) == (4, 8)  # nothing tells them apart


def test_more_rivals_need_a_wider_gap():
    a, b = [0.84, 0.86], [0.79, 0.81]
    assert rivals({1: a, 2: b}) == (1,)
    far = {unit: [0.1, 0.12] for unit in range(3, 40)}
    two = rivals({1: a, 2: b}, 0.95)
    many = rivals({1: a, 2: b} | {unit: [0.0, 0.2] for unit in far}, 0.95)
    assert two == (1,) and 2 in many


def test_the_front_holds_what_nothing_beats():
    scores = {1: 0.5, 2: 0.7, 3: 0.7, 4: 0.6, 5: 0.9, 6: float("nan")}
    price = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 0}
    assert pareto(scores, price) == (1, 2, 5)
    assert pareto(scores, dict.fromkeys(price, 1)) == (5,)
    assert pareto(scores, price, maximize=False) == (1,)


def test_a_price_moves_the_objective_against_cost():
    price = {1: 0.25, 2: 1.0}
    assert penalised({1: 0.8, 2: 0.82}.get, price, 0.1)(2) == pytest.approx(0.72)
    assert penalised({1: 0.8, 2: 0.82}.get, price, 0.1, maximize=False)(1) == pytest.approx(0.825)
