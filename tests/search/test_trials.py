"""Following a plan: what a training that answers several requests in one go changes, and what not."""

import pytest

from ttl_jax.search import follow, halving_plan

UNITS, STAGES, RUNGS = range(1, 18), (4, 8, 14, 17), (0.1, 0.3, 1.0)


def curve(request):
    """A smooth top at unit 11; scores rise with the budget, alike for all."""
    return 0.9 - 0.004 * abs(request.unit - 11) - 0.2 * (1 - request.budget)


def plan():
    return halving_plan(STAGES, UNITS, rungs=RUNGS, eta=3.0)


def evaluate(requests):
    return [curve(request) for request in requests]


@pytest.mark.parametrize("asks", [True, False])
def test_a_climb_answers_as_separate_trainings_do(asks):
    climbs = []

    def climb(request, onward):
        climbs.append([request])
        while asks and request.budget < 1:
            budget = onward(curve(request))
            if budget is None:
                return float("nan")  # the plan knows the score already
            request = request._replace(budget=budget)
            climbs[-1].append(request)
        return curve(request)

    assert follow(plan(), evaluate, climb=climb) == follow(plan(), evaluate)
    assert any(len(climbed) == 3 for climbed in climbs) == asks
    for climbed in climbs:  # one training, further each time
        assert len({request[0::2] for request in climbed}) == 1
        assert [request.budget for request in climbed] == sorted({request.budget for request in climbed})


def test_what_is_known_is_not_climbed():
    known = {request: curve(request) for request in _asked()}
    whole = follow(plan(), evaluate)

    def climb(request, onward):
        raise AssertionError(f"{request} was there")

    again = follow(plan(), climb, climb=climb, done=known)
    assert again.best == whole.best and again.cost == 0


def _asked():
    asked = []

    def remember(requests):
        asked.extend(requests)
        return evaluate(requests)

    follow(plan(), remember)
    return asked
