"""The value of a training, told at each rung that it goes on from."""

from types import SimpleNamespace

import pytest

from ttl_jax.search.protocol import Request
from ttl_jax.search.trainings import Evaluations


@pytest.mark.parametrize("rungs", [(0.5, 1.0), (0.5, None), (None,)])
def test_a_training_that_goes_on_tells_each_value_at_its_budget(rungs):
    scores, asked = {0.25: 0.8, 0.5: 0.6, 1.0: 0.4}, []

    class Trainings:
        subject = SimpleNamespace(
            options=SimpleNamespace(engine="local", workers=2, weight=0.1), sign=-1,
            run=SimpleNamespace(select="loss"), points={3: SimpleNamespace(name="u")},
        )  # fmt: skip

        def run(self, request, last_save, go_on, hooks):
            budget = request.budget
            while budget < 1:
                further = go_on(scores[budget])
                if further is None:
                    break
                budget = further
            return scores[budget]

    answers = iter(rungs)
    trials = Evaluations(Trainings(), {3: 0.5}, None)
    found = trials.climb(Request(3, 0.25, 0), lambda value: asked.append(value) or next(answers))
    reached = [0.25, *(rung for rung in rungs if rung is not None)]
    values = [-scores[budget] - 0.1 * 0.5 for budget in reached]
    assert trials.told == {Request(3, budget, 0): pytest.approx(value) for budget, value in
                           zip(reached, values, strict=True)}  # fmt: skip
    assert asked == pytest.approx(values[: len(rungs)])
    assert rungs[-1] is None or found == pytest.approx(values[-1])
