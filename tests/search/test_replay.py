"""Both searches on the TTL authors' published scores in the place of trainings."""

import pytest

from ttl_jax.search import Terms, halving, two_stage

from . import published

SERIES = published.series()
WHOLE = published.whole_series()
TOLERANCE = 0.005


class Table:
    """An objective that counts its calls."""

    def __init__(self, scores):
        self.scores, self.calls = scores, []

    def __call__(self, unit):
        self.calls.append(unit)
        return self.scores[unit]


def noisy(model):
    return SERIES["checkpoints_noisy", "BIMCV", model]


def test_two_stage_finds_the_published_ttl_1_and_ttl_2():
    objective = Table(noisy("layerttl_resnet50"))
    result = two_stage(objective, (4, 8, 14, 17), range(1, 18))
    assert result.rounds == (14, 12)  # TTL-1, TTL-2
    assert result.best == 12 and result.score == 0.8715
    assert objective.calls == [4, 8, 14, 17, 9, 10, 11, 12, 13, 15, 16]
    assert [trial.unit for trial in result.trials] == objective.calls
    assert result.cost == 11  # "about 10-12 trainings rather than 17": 4 boundaries, 5 + 2 units


def test_two_stage_finds_the_published_lwft_and_tf():
    lwft = two_stage(Table(noisy("layer_wise_freeze_resnet50")), (4, 8, 14, 17), range(1, 18))
    assert lwft.rounds == (4, 1) and lwft.cost == 10
    # index 16 of the slimming series is the whole network (methods.md B.4), trained once more
    tf = two_stage(Table(noisy("layer_wise_slim_resnet50")), (4, 8, 14, 16), range(1, 17))
    assert tf.rounds == (14, 14)


def replay(scores):
    """The better search with half of the exhaustive cost to spend; no option differs by series."""
    objective = Table(scores)
    result = halving(
        lambda request: objective(request.unit),
        published.boundaries(scores),
        scores,
        Terms(allowance=len(scores) // 2),
    )
    assert len(objective.calls) == len(set(objective.calls)) == result.cost
    return result


def test_the_file_holds_ten_series_over_all_units():
    assert len(WHOLE) == 10
    assert {key[0] for key in WHOLE} == {key[0] for key in SERIES}  # every run set is among them


@pytest.mark.parametrize("key", WHOLE, ids="-".join)
def test_half_of_the_trainings_reach_the_best_within_the_tolerance(key):
    scores = WHOLE[key]
    result, best = replay(scores), max(scores.values())
    print(f"{' '.join(key)}: unit {result.best} {result.score:.4f}, best {best:.4f}, "
          f"{result.cost:g} of {len(scores)} trainings")  # fmt: skip
    assert best - result.score <= TOLERANCE + 1e-12
    assert result.cost <= len(scores) / 2
