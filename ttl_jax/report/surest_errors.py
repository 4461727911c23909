"""The decisions that a model was surest of, wrong and right: where to look first, by name only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttl_jax.evaluation.predictions import Predictions

SHOWN = 10


@dataclass(frozen=True)
class Decision:
    """The decision on an example: its id and patient, the label, the decision, and how sure it was.

    row: row of the prediction file; place: column of the class that the decision is about.
    """

    id: str
    group: str
    true: str
    decided: str
    confidence: float
    row: int
    place: int
    right: bool


def confident_errors(predictions: Predictions, most: int = SHOWN) -> tuple[Decision, ...]:
    """The wrong decisions of highest confidence; of several labels, each known one is a decision."""
    return tuple(each for each in _surest_first(predictions) if not each.right)[:most]


def confident_right(predictions: Predictions, most: int) -> tuple[Decision, ...]:
    """The right decisions of highest confidence, the classes in turn."""
    turns: dict[int, int] = {}
    right = []
    for each in _surest_first(predictions):
        if each.right:
            turns[each.place] = turns.get(each.place, 0) + 1
            right.append((turns[each.place], each))
    right.sort(key=lambda pair: pair[0])
    return tuple(each for _, each in right)[:most]


def _surest_first(predictions: Predictions) -> list[Decision]:
    chances, names = predictions.probabilities, predictions.class_names
    decisions = []
    if predictions.task == "multiclass":
        for row, place in enumerate(chances.argmax(axis=1)):
            true, sure = names[int(predictions.labels[row])], float(chances[row, place])
            decisions.append(_decision(predictions, sure, row, int(place), true, names[place]))
    else:
        for row, place in zip(*np.nonzero(~np.isnan(predictions.labels)), strict=True):
            words = (f"no {names[place]}", names[place])
            sure = float(max(chances[row, place], 1 - chances[row, place]))
            true, said = words[int(predictions.labels[row, place])], words[int(chances[row, place] >= 0.5)]
            decisions.append(_decision(predictions, sure, int(row), int(place), true, said))
    return sorted(decisions, key=lambda each: (-each.confidence, each.row))


def _decision(held: Predictions, sure: float, row: int, place: int, true: str, said: str) -> Decision:
    return Decision(str(held.ids[row]), str(held.groups[row]), true, said, sure, row, place, true == said)
