from __future__ import annotations

import numpy as np

from ttl_jax.evaluation import probabilities, questions
from ttl_jax.evaluation.predictions import Predictions


def held(labels, logits, task="multiclass"):
    names = tuple("abc"[: logits.shape[1]])
    ids = np.arange(len(logits)).astype(str)
    return Predictions(ids, ids, labels, logits, names, task)


def test_a_question_a_class_and_one_for_two():
    random = np.random.default_rng(0)
    labels, logits = random.integers(3, size=20), random.normal(size=(20, 3))
    asked = questions(held(labels, logits), temperature=2.0)
    assert [each.name for each in asked] == ["a", "b", "c"]
    for place, each in enumerate(asked):
        np.testing.assert_array_equal(each.truth, labels == place)
        np.testing.assert_allclose(each.chances, probabilities(logits / 2, "multiclass")[:, place])
    (only,) = questions(held(labels % 2, logits[:, :2]))
    assert only.name == "b"
    np.testing.assert_allclose(only.odds, logits[:, 1] - logits[:, 0])


def test_unknown_labels_are_left_out():
    labels = np.array([[1.0, np.nan], [0.0, 1.0], [np.nan, 0.0]])
    first, second = questions(held(labels, np.arange(6.0).reshape(3, 2), "multilabel"))
    assert first.truth.tolist() == [True, False] and first.groups.tolist() == ["0", "1"]
    assert second.odds.tolist() == [3.0, 5.0]
