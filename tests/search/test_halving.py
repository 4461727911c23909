"""Successive halving over units: who goes on, what is spent, when it ends."""

import math

import pytest

from ttl_jax.errors import UserError
from ttl_jax.search import Request, Terms, follow, halving, halving_plan

UNITS, STAGES = range(1, 18), (4, 8, 14, 17)


def curve(request):
    """A smooth top at unit 11; scores rise with the budget, alike for all."""
    return 0.9 - 0.004 * abs(request.unit - 11) - 0.2 * (1 - request.budget)


def test_each_rung_keeps_the_upper_half_and_costs_the_difference():
    result = halving(curve, STAGES, UNITS, Terms(allowance=6.0), rungs=(0.25, 0.5, 1.0))
    first = [trial for trial in result.trials[:5]]
    assert [trial.unit for trial in first] == [1, 4, 8, 14, 17]
    assert [trial.cost for trial in first] == [0.25] * 5
    second, third = result.trials[5:8], result.trials[8:10]
    assert sorted(trial.unit for trial in second) == [8, 14, 17] and {t.cost for t in second} == {0.25}
    assert sorted(trial.unit for trial in third) == [8, 14] and {t.cost for t in third} == {0.5}
    assert result.cost <= 6.0 and result.best == 11
    assert len({trial[0:1] + trial[2:4] for trial in result.trials}) == len(result.trials)  # each once


def test_a_newcomer_below_the_leaders_curve_is_stopped_at_the_first_rung():
    result = halving(curve, STAGES, UNITS, rungs=(0.25, 1.0))
    whole = {trial.unit for trial in result.trials if trial.budget == 1.0}
    early = {trial.unit for trial in result.trials} - whole
    assert result.best == 11 and early
    leader = max(whole, key=lambda unit: curve(Request(unit)))
    assert all(curve(Request(unit, 0.25)) <= curve(Request(leader, 0.25)) for unit in early)


def test_it_ends_when_no_unit_is_likely_to_be_better_by_more_than_the_tolerance():
    steep = halving(lambda request: 0.9 - 0.05 * abs(request.unit - 8), STAGES, UNITS)
    assert steep.best == 8 and steep.cost < 17
    assert steep.reason == "little more is to be gained, if curves do not cross"
    # five equal scores prove nothing of the units between them
    assert halving(lambda request: 0.7, STAGES, UNITS).reason == "every unit was tried"


def test_finalists_get_seeds_until_the_interval_leaves_one():
    noise = {0: 0.0, 1: 0.002, 2: -0.002, 3: 0.001, 4: -0.001}

    def clear(request):
        return 0.9 - 0.02 * abs(request.unit - 8) + noise[request.seed]

    result = halving(clear, STAGES, UNITS, Terms(seeds=(0, 1, 2, 3, 4), finalists=2))
    assert result.best == 8 and "no other finalist is left" in result.reason
    seeds = [trial.seed for trial in result.trials if trial.unit == 8]
    assert seeds == [0, 1]

    def unclear(request):
        return 0.9 + noise[request.seed] * (-1) ** request.unit - 0.1 * (request.unit not in (8, 9))

    result = halving(unclear, STAGES, UNITS, Terms(seeds=(0, 1, 2), finalists=2))
    assert "is not told apart from" in result.reason
    of_winner = [unclear(Request(result.best, 1.0, seed)) for seed in (0, 1, 2)]
    assert result.score == pytest.approx(sum(of_winner) / 3)


def test_the_finals_have_their_part_of_the_allowance():
    result = halving(curve, STAGES, UNITS, Terms(seeds=(0, 1, 2), finalists=2, allowance=10))
    seeds = {unit: [t.seed for t in result.trials if t.unit == unit] for unit in UNITS}
    assert sorted(len(found) for found in seeds.values() if len(found) > 1) in ([2, 2], [3, 3])
    assert result.cost <= 10 and sum(len(found) == 1 for found in seeds.values()) == 4
    with pytest.raises(UserError, match="does not pay for the opening of 5 units and the finals"):
        halving(curve, STAGES, UNITS, Terms(seeds=(0, 1, 2), finalists=2, allowance=8))


def test_the_allowance_counts_effort():
    effort = {unit: unit / 17 for unit in UNITS}
    result = halving(curve, STAGES, UNITS, Terms(allowance=4.0), effort=effort)
    assert result.cost <= 4.0 and result.reason.startswith("the allowance of 4 trainings is spent")
    assert result.cost == pytest.approx(sum(effort[trial.unit] for trial in result.trials))


def test_a_smaller_budget_that_is_there_is_gone_on_from():
    done = {Request(unit, 0.5): curve(Request(unit, 0.5)) for unit in UNITS}
    result = halving(curve, STAGES, UNITS, rungs=(0.5, 1.0), done=done)
    assert {trial.cost for trial in result.trials if trial.budget == 0.5} == {0.0}
    assert {trial.cost for trial in result.trials if trial.budget == 1.0} == {0.5}


def test_failures_are_passed_over():
    result = halving(lambda r: math.nan if r.unit in (14, 11) else curve(r), STAGES, UNITS)
    assert result.best in (10, 12)


def test_low_scores_can_be_the_good_ones():
    result = halving(lambda request: -curve(request), STAGES, UNITS, Terms(maximize=False, allowance=8))
    assert result.best == 11 and result.score == pytest.approx(-0.9)


def test_several_units_are_opened_side_by_side():
    batches = []

    def evaluate(requests):
        batches.append(len(requests))
        return [curve(request) for request in requests]

    follow(halving_plan(STAGES, UNITS, Terms(width=3, allowance=11)), evaluate)
    assert batches == [5, 3, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rungs": (0.5, 0.25, 1.0)}, "must rise from above 0 to 1"),
        ({"rungs": (0.0, 1.0)}, "must rise from above 0 to 1"),
        ({"rungs": (-0.5, 1.0)}, "must rise from above 0 to 1"),
        ({"rungs": (0.5,)}, "must rise from above 0 to 1"),
        ({"eta": 1.0}, "eta=1.0 must be above 1"),
        ({"seeds": (1, 1)}, "different numbers"),
        ({"confidence": 1.0}, "between 0 and 1"),
        ({"finalists": 0}, "1 or more"),
        ({"allowance": 0.5}, "does not pay for the opening"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        own = {name: options[name] for name in ("rungs", "eta") if name in options}
        terms = {name: value for name, value in options.items() if name not in own}
        halving(curve, STAGES, UNITS, Terms(**terms), **own)
