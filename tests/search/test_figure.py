"""The figure of a search holds what its record does."""

import numpy as np

from ttl_jax.search import figure


def test_a_search_s_figure_has_scores_trials_on_the_way_and_prices(axes_of):
    scores = {1: 0.7, 2: None, 3: 0.9}
    trials = [(1, 1.0, 0.7), (3, 1.0, 0.9), (1, 0.5, 0.6), (2, 0.5, 0.4), (3, 0.25, None)]
    record = {
        "units": [{"unit": unit, "score": score, "price": unit / 3} for unit, score in scores.items()],
        "trials": [{"unit": unit, "budget": budget, "score": score} for unit, budget, score in trials],
        "best": 3, "unit": "top", "score": 0.9, "select": "auroc", "stages": [2], "kind": "ttl",
        "model": "m", "method": "halving", "cost": 1.5, "exhaustive_cost": 3, "price": "macs",
        "confidence": None, "tolerance": 0.01, "reason": "",
    }  # fmt: skip
    left, right = axes_of(figure, record)
    early = left.collections[0].get_offsets()
    np.testing.assert_allclose(early, [(1, 0.6), (2, 0.4)])
    curve, best, stage = left.lines
    np.testing.assert_allclose(curve.get_xydata(), [(1, 0.7), (3, 0.9)])
    np.testing.assert_allclose(best.get_xydata(), [(3, 0.9)])
    assert list(stage.get_xdata()) == [2, 2]
    np.testing.assert_allclose(right.lines[0].get_xydata(), [(1, 1 / 3), (2, 2 / 3), (3, 1)])
