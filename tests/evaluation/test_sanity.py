"""Each thing that goes wrong raises its own warning, and a good run none."""

from __future__ import annotations

import numpy as np
import pytest

from ttl_jax.evaluation import Predictions, score
from ttl_jax.evaluation.sanity import warnings_of


def held(labels, logits, task="multiclass"):
    names = tuple("abcdef"[: logits.shape[1]])
    ids = np.arange(len(labels)).astype(str)
    return Predictions(ids, ids, labels, logits, names, task)


def good(n=200, classes=3, seed=0):
    random = np.random.default_rng(seed)
    labels = random.choice(classes, size=n, p=[0.6] + [0.4 / (classes - 1)] * (classes - 1))
    return labels, random.normal(size=(n, classes)) + 2.0 * np.eye(classes)[labels]


def codes(labels, logits, task="multiclass", split="test", **course):
    found = held(labels, logits, task)
    scores = score(labels, logits, found.class_names, task)
    raised = warnings_of({split: found}, {split: scores}, **course)
    assert all(each.message and each.remedy for each in raised)
    return {each.code for each in raised}


def test_a_good_run_raises_none():
    for split in ("val", "test"):
        assert codes(*good(), split=split) == set()
    labels = (np.random.default_rng(0).random((200, 3)) < 0.3).astype(float)
    logits = 3.0 * labels - 1.5 + np.random.default_rng(1).normal(size=labels.shape)
    assert codes(labels, logits, "multilabel", split="val") == set()


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda y, z: (y, z + 40 * np.eye(3)[0]), "one_class_said"),
        (lambda y, z: (y, 10 * np.roll(z, 1, axis=1)), "loss_above_chance"),
        (lambda y, z: (y, z + 3 * np.eye(3)[2]), "accuracy_below_prevalence"),
        (lambda y, z: (y[y < 2], z[y < 2]), "undefined"),
        (lambda y, z: (y[y < 1], z[y < 1]), "undefined"),
    ],
)
def test_each_harm_has_its_warning(harm, code):
    assert code in codes(*harm(*good()))


def test_temperatures_that_say_nothing():
    labels, logits = good()
    assert "temperature" in codes(labels, 12 * logits, split="val")
    assert "temperature" in codes(labels, 3.0 * np.eye(3)[labels], split="val")  # no error to fit on
    assert codes(labels, 12 * logits) <= {"loss_above_chance"}  # fitted on validation alone


def test_labels_that_are_all_decided_alike():
    labels = (np.random.default_rng(0).random((200, 2)) < 0.3).astype(float)
    assert "one_class_said" in codes(labels, np.full((200, 2), -2.0), "multilabel")
    labels[:, 0], labels[:, 1] = 0, 1  # there is nothing to tell apart
    assert "one_class_said" not in codes(labels, np.where(labels == 1, 2.0, -2.0), "multilabel")


def test_the_kept_step_has_the_worst_loss():
    course = [{"step": step, "loss": loss} for step, loss in ((10, 0.9), (20, 0.5), (30, 0.4))]
    found = codes(*good(), course=course, kept_step=10)
    assert found == {"kept_worst_loss"}
    for kept in (20, 30, None):
        assert codes(*good(), course=course, kept_step=kept) == set()
    assert codes(*good(), course=course[:1], kept_step=10) == set()
