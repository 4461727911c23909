from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttl_jax.evaluation import decide, log_odds, probabilities


def test_softmax_and_sigmoid():
    logits = np.log([[1.0, 2, 5], [4, 4, 2]])
    assert probabilities(logits, "multiclass") == pytest.approx(
        np.array([[0.125, 0.25, 0.625], [0.4, 0.4, 0.2]])
    )
    assert probabilities(np.log([[1.0, 3], [1 / 4, 9]]), "multilabel") == pytest.approx(
        np.array([[0.5, 0.75], [0.2, 0.9]])
    )


def test_large_logits_do_not_overflow():
    assert probabilities(np.array([[1000.0, -1000], [-1000, 0]]), "multilabel").tolist() == [
        [1.0, 0.0], [0.0, 0.5],
    ]  # fmt: skip
    assert probabilities(np.array([[1000.0, 0]]), "multiclass").tolist() == [[1.0, 0.0]]


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=6))
def test_log_odds_are_those_of_the_probabilities(row):
    logits = np.array([row])
    chances = np.exp(logits) / np.exp(logits).sum()
    want = np.log(chances) - np.log(1 - chances)
    assert log_odds(logits, "multiclass") == pytest.approx(want, rel=1e-6, abs=1e-6)


def test_log_odds_beyond_the_rounding_of_probabilities():
    # p of the first is 1 - 2 exp(-100), which rounds to 1
    assert log_odds(np.array([[100.0, 0, 0]]), "multiclass")[0, 0] == pytest.approx(100 - np.log(2))


def test_decisions():
    chances = np.array([[0.7, 0.3], [0.2, 0.8]])
    assert decide(chances, "multiclass").tolist() == [0, 1]
    assert decide(chances, "multiclass", 0.3).tolist() == [1, 1]
    assert decide(chances, "multilabel").tolist() == [[1, 0], [0, 1]]
    assert decide(chances, "multilabel", (0.2, 0.9)).tolist() == [[1, 0], [1, 0]]
