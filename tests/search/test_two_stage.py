"""Exhaustive and two-stage search: which units are asked for, and what is refused."""

import pytest

from ttl_jax import models
from ttl_jax.errors import UserError
from ttl_jax.search import Request, exhaustive, follow, two_stage, two_stage_plan

LOSS = {1: 5.0, 2: 4.0, 3: 3.0, 4: 1.0, 5: 2.0, 6: 0.5, 7: 0.9, 8: 0.7, 9: 0.8}


def test_units_and_stages_are_numbers_or_those_of_a_network():
    named = two_stage(LOSS.get, models.stages("resnet18"), models.units("resnet18"), maximize=False)
    numbered = two_stage(LOSS.get, [9, 3, 5, 7], range(1, 10), maximize=False)
    assert named == numbered
    assert [trial.unit for trial in named.trials] == [3, 5, 7, 9, 8]
    assert named.rounds == (9, 8)


@pytest.mark.parametrize(
    ("winner", "asked"),
    [(3, [1, 2, 4]), (5, [4, 6]), (9, [8])],
)
def test_stage_two_takes_the_stages_on_both_sides_of_the_winner(winner, asked):
    result = two_stage(lambda unit: float(unit == winner), (3, 5, 7, 9), range(1, 10))
    assert [trial.unit for trial in result.trials][4:] == asked
    assert result.best == winner


def test_an_only_boundary_without_neighbours_ends_after_stage_one():
    result = two_stage(LOSS.get, [1], [1])
    assert result.rounds == (1, 1) and result.cost == 1


def test_exhaustive_takes_the_lowest_of_equals_and_the_smallest_where_asked():
    assert exhaustive(lambda unit: 1.0, (3, 2, 5)).best == 2
    assert exhaustive(LOSS.get, LOSS, maximize=False).best == 6
    assert exhaustive(LOSS.get, LOSS).score == 5.0


def test_failed_trainings_never_win():
    nan = float("nan")
    assert exhaustive({1: nan, 2: 0.1, 3: nan}.get, (1, 2, 3)).best == 2
    with pytest.raises(UserError, match="every training of the search failed"):
        exhaustive({1: nan, 2: nan}.get, (1, 2))


def test_a_boundary_that_is_no_unit_and_no_units_are_refused():
    with pytest.raises(UserError, match="stage boundary 12 is not among the units"):
        two_stage(LOSS.get, (4, 12), range(1, 10))
    with pytest.raises(UserError, match="at least one unit"):
        exhaustive(LOSS.get, ())


def test_trials_done_before_are_not_run_again_and_cost_nothing():
    asked = []

    def evaluate(requests):
        asked.extend(request.unit for request in requests)
        return [LOSS[request.unit] for request in requests]

    done = {Request(unit): LOSS[unit] for unit in (3, 7, 8)}
    plan = two_stage_plan((3, 5, 7, 9), range(1, 10), maximize=False)
    result = follow(plan, evaluate, done=done, effort={unit: unit / 10 for unit in LOSS})
    assert asked == [5, 9] and result.best == 8
    assert result.cost == pytest.approx(0.5 + 0.9)
