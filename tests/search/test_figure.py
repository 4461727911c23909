"""The figures of a search and of its preview hold what their records do."""

import matplotlib.figure
import numpy as np
import pytest

from ttl_jax.search import figure, preview


@pytest.fixture
def axes_of(tmp_path, monkeypatch):
    """Draws a record; returns the axes of the figure that was saved."""
    made = []

    class Kept(matplotlib.figure.Figure):
        def savefig(self, *arguments, **options):
            made.append(self)
            super().savefig(*arguments, **options)

    monkeypatch.setattr(matplotlib.figure, "Figure", Kept)

    def draw(module, record):
        module.draw(record, tmp_path / "x.png")
        assert (tmp_path / "x.png").stat().st_size > 1000
        return made[-1].axes

    return draw


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


def test_a_preview_s_figure_scales_each_measure_to_its_range(axes_of):
    rows = [(0.6, -2.0, 5.0), (0.9, -1.0, 5.0), (0.7, np.nan, 5.0)]
    record = {
        "units": [
            {"unit": unit, "probe": probe, "logme": logme, "h_score": h_score}
            for unit, (probe, logme, h_score) in enumerate(rows, 1)
        ],
        "select": "auroc", "best": 2, "model": "m",
    }  # fmt: skip
    (axes,) = axes_of(preview, record)
    probe, logme, h_score, best = axes.lines
    np.testing.assert_allclose(probe.get_ydata(), [0, 1, 1 / 3])
    np.testing.assert_allclose(logme.get_ydata(), [0, 1, np.nan])
    np.testing.assert_allclose(h_score.get_ydata(), 0)  # all alike
    assert list(best.get_xdata()) == [2, 2]
