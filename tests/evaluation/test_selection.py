"""The order in which weights are chosen."""

import math

import numpy as np
import pytest

from ttl_jax import evaluation
from ttl_jax.evaluation.registry import deciding, figure, merit


def scores(auroc, loss):
    return {"auroc": auroc, "loss": loss, "accuracy": 0.5}


@pytest.mark.parametrize(
    ("worse", "better", "select"),
    [
        (scores(0.8, 0.1), scores(0.9, 0.7), "auroc"),
        (scores(1.0, 0.5), scores(1.0, 0.4), "auroc"),  # a tie: the lower loss
        (scores(0.9, 0.5), scores(0.1, 0.4), "loss"),
        (scores(0.9, 0.5), scores(0.1, 0.4), "accuracy"),  # a tie in what is selected by
        (scores(None, 0.5), scores(None, 0.4), "auroc"),
        (scores(math.nan, 0.5), scores(math.nan, 0.4), "auroc"),
        (scores(0.9, math.nan), scores(0.9, 9.0), "auroc"),
        (scores(None, math.inf), scores(None, 1e9), "auroc"),
    ],
)
def test_the_greater_merit_is_the_better(worse, better, select):
    assert merit(worse, select) < merit(better, select)


def test_equal_figures_and_losses_are_equal_merits():
    assert merit(scores(0.9, 0.5), "auroc") == merit(scores(0.9, 0.5), "auroc")
    assert merit(scores(None, math.nan), "auroc") == merit(scores(math.nan, None), "loss")


def test_whether_a_figure_is_defined_depends_on_the_labels_alone():
    """So the loss, which stands in for it, is never compared with it."""
    rng = np.random.default_rng(0)
    for labels in (np.zeros(9, int), np.ones(9, int), np.arange(9) % 2, np.arange(9) % 3):
        undefined = set()
        for number in range(20):
            logits = rng.normal(size=(9, 3)) if number else np.zeros((9, 3))
            found = evaluation.score(labels, logits, ("a", "b", "c"), "multiclass")
            undefined.add(tuple(name for name, value in found.items() if value is None))
        assert len(undefined) == 1


def test_the_deciding_metric_and_its_figure_are_one_rule():
    assert deciding(scores(0.9, 0.5), "auroc") == "auroc" and figure(scores(0.9, 0.5), "auroc") == 0.9
    for undefined in (None, math.nan):
        assert deciding(scores(undefined, 0.5), "auroc") == "loss"
        assert figure(scores(undefined, 0.5), "auroc") == -0.5  # rises as the loss falls
    assert figure(scores(0.9, 0.5), "loss") == 0.5 and math.isnan(figure(scores(None, None), "auroc"))
    low = {"ece": 0.1, "loss": 0.5}
    assert merit(low, "ece") > merit({"ece": 0.2, "loss": 0.1}, "ece") and figure(low, "ece") == 0.1
