"""Following a plan: what a training that answers several requests in one go changes, and what not."""

import pytest

from ttl_jax.search import follow, halving_plan
from ttl_jax.search.protocol import Request, upcoming
from ttl_jax.search.two_stage import exhaustive_plan

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


def test_what_comes_next_is_foretold():
    """Along a smooth curve almost always; of a training that goes on, what comes after it."""
    asked, known, first, right = _asked(), {}, set(), 0
    for request, following in zip(asked, [*asked[1:], None], strict=True):
        foretold = upcoming(plan, known, request)
        assert foretold is None or foretold.unit != request.unit
        first.add(request.unit)
        if following is not None and following.unit not in first:
            right += foretold is not None and foretold.unit == following.unit
        known[request] = curve(request)
    assert right >= 0.6 * (len(first) - 1), (right, len(first))


def test_what_comes_next_in_a_fixed_order_is_known():
    whole = [Request(unit) for unit in (2, 5, 9)]
    assert upcoming(lambda: exhaustive_plan((2, 5, 9)), {}, whole[0]) == whole[1]
    known = {whole[0]: float("nan")}
    assert upcoming(lambda: exhaustive_plan((2, 5, 9)), known, whole[1]) == whole[2]
    assert upcoming(lambda: exhaustive_plan((2, 5, 9)), known | {whole[1]: 0.5}, whole[2]) is None
