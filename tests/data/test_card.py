from __future__ import annotations

from dataclasses import replace

import numpy as np

from ttl_jax.config import default_config
from ttl_jax.data.card import card, looked_for
from ttl_jax.data.dataset import ArrayReader, Dataset


def split(name, labels, groups, task="multiclass"):
    labels = np.array(labels)
    ids = np.array([f"{name}{number}" for number in range(len(labels))])
    images = ArrayReader(np.zeros((len(labels), 2, 2, 3), np.uint8))
    return Dataset(name, labels, ids, np.array(groups), ("a", "b"), task, images)


def test_counts_and_groups_in_two_splits():
    sets = {"train": split("train", [0, 0, 1], ["p", "p", "q"]), "test": split("test", [1, 1], ["q", "r"])}
    found = card(sets)
    assert found["splits"]["train"] == {"examples": 3, "groups": 2, "classes": {"a": 2, "b": 1}}
    assert found["splits"]["test"]["classes"] == {"a": 0, "b": 2}
    assert found["straddling"] == 1


def test_labels_that_are_unknown_are_not_counted():
    labels = [[1.0, np.nan], [1.0, 1.0], [0.0, np.nan]]
    found = card({"train": split("train", labels, ["p", "q", "r"], "multilabel")})
    assert found["splits"]["train"]["classes"] == {"a": 2, "b": 1} and found["straddling"] == 0


def test_what_was_skipped_is_told_once():
    lines = ("a.png is damaged", "b.png")
    parts = {name: split(name, [0, 1], [f"p{name}", f"q{name}"]) for name in ("train", "test")}
    assert card({name: replace(part, skipped=lines) for name, part in parts.items()})["skipped"] == list(
        lines
    )
    assert card(parts)["skipped"] == []


def test_it_is_said_how_copies_were_looked_for():
    config = default_config().data
    for mode, said in (
        ("altered", "once aligned"),
        ("near", "not shifted"),
        ("ignore", "were not looked for"),
    ):
        config.duplicates = mode
        assert said in looked_for(config)["copies"]
    config.name = "phantom/mri"
    assert looked_for(config) == {}
