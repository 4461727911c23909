"""The Bayesian search: who is trained, what is spent, when it ends, and who wins."""

import math

import pytest

from ttl_jax.errors import UserError
from ttl_jax.search import Request, Terms, bayesian_plan, follow

UNITS = range(1, 18)


def curve(request):
    """A smooth top at unit 11; scores rise with the budget, alike for all."""
    return 0.9 - 0.004 * abs(request.unit - 11) - 0.2 * (1 - request.budget)


def search(objective=curve, units=UNITS, pilot=0.05, **terms):
    batches = []

    def evaluate(requests):
        batches.append(requests)
        return [objective(request) for request in requests]

    return follow(bayesian_plan(units, Terms(**terms), pilot=pilot), evaluate), batches


def test_every_unit_trains_a_little_and_the_promising_ones_to_their_end():
    result, batches = search(pilot=0.1, allowance=17 / 3)
    assert batches[0] == tuple(Request(unit, 0.1) for unit in UNITS)
    assert [len(batch) for batch in batches[1:]] == [1, 1, 1, 1] and result.best == 11
    assert result.cost == pytest.approx(17 * 0.1 + 4 * 0.9) and result.cost <= 17 / 3
    assert result.reason == "the allowance of 5.66667 trainings is spent"


def test_three_trainings_are_made_whatever_the_allowance():
    result, batches = search(units=range(1, 8), pilot=0.1, allowance=7 / 3)
    assert result.cost == pytest.approx(7 * 0.1 + 3 * 0.9)


def test_it_ends_sooner_where_nothing_is_likely_to_be_better():
    result, _ = search(lambda request: 0.9 - 0.08 * abs(request.unit - 11) - 0.2 * (1 - request.budget))
    assert result.best == 11 and result.cost < 8
    assert result.reason == "no unit is likely to be better by more than 0.01"


def test_what_learns_slowly_and_ends_best_is_found():
    """At a tenth of the training the order is the reverse of that at the end."""

    def crossing(request):
        end = 0.7 + 0.01 * request.unit
        return end - (1 - request.budget) * (0.05 + 0.02 * request.unit)

    assert crossing(Request(1, 0.1)) > crossing(Request(17, 0.1))
    result, _ = search(crossing, pilot=0.1, allowance=17 / 3)
    assert result.best >= 16


def test_a_lucky_score_between_low_neighbours_does_not_win():
    scores = {unit: curve(Request(unit)) for unit in UNITS} | {7: 0.901}  # .884 were in line
    result, _ = search(lambda request: scores[request.unit], pilot=1.0)
    assert max(scores, key=scores.get) == 7 and result.best in (10, 11, 12)


def test_several_units_at_once_are_not_neighbours():
    _, batches = search(width=3, allowance=17 / 3)
    first = sorted(request.unit for request in batches[1])
    assert len(first) == 3 and min(b - a for a, b in zip(first, first[1:], strict=False)) > 1
    assert sum(len(batch) for batch in batches[1:]) == 5  # no more than one at a time could pay for


def test_the_best_few_get_more_seeds():
    result, batches = search(seeds=(4, 5, 6), finalists=2, allowance=17 / 3)
    assert {request.seed for batch in batches[:-1] for request in batch} == {4}
    assert len(batches[-1]) == 4 and {request.seed for request in batches[-1]} == {5, 6}
    tried = {request for batch in batches[:-1] for request in batch if request.budget == 1}
    best = sorted(tried, key=curve)[-2:]  # the curve is smooth: what the units' neighbours say moves no order
    assert {request.unit for request in batches[-1]} == {request.unit for request in best}
    assert "after 3 seeds" in result.reason and result.best in {request.unit for request in batches[-1]}
    assert result.score == pytest.approx(curve(Request(result.best)))


def test_failures_are_passed_over_and_low_scores_can_be_good():
    failing = {Request(11, 0.05), Request(10, 1.0)}
    result, _ = search(lambda request: math.nan if request in failing else curve(request))
    assert result.best in (9, 12)
    result, _ = search(lambda request: -curve(request), maximize=False, allowance=8)
    assert result.best == 11 and result.score == pytest.approx(-0.9)
    for failed in (lambda request: math.nan, lambda request: math.nan if request.budget == 1 else 0.5):
        with pytest.raises(UserError, match="every training of the search failed"):
            search(failed)


def test_without_a_pilot_every_unit_is_trained():
    result, batches = search(pilot=1.0)
    assert len(batches) == 1 and result.cost == 17 and result.reason == "every unit was tried"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pilot": 0.0}, "pilot=0 is a share"),
        ({"seeds": (1, 1)}, "different numbers"),
        ({"confidence": 1.0}, "between 0 and 1"),
        ({"tolerance": 0.0}, "must be above 0"),
        ({"width": 0}, "1 or more"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        search(**options)
