"""The wrong decisions that a model was surest of: where to look first, by name only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttl_jax.evaluation.predictions import Predictions

SHOWN = 10


@dataclass(frozen=True)
class ConfidentError:
    """An example decided wrongly: its id and patient, the label, the decision, and how sure it was."""

    id: str
    group: str
    true: str
    decided: str
    confidence: float


def confident_errors(predictions: Predictions, most: int = SHOWN) -> tuple[ConfidentError, ...]:
    """The wrong decisions of highest confidence; of several labels, each known one is a decision."""
    chances, names = predictions.probabilities, predictions.class_names
    found = []
    if predictions.task == "multiclass":
        said = chances.argmax(axis=1)
        for row in np.flatnonzero(said != predictions.labels):
            found.append(
                (float(chances[row, said[row]]), int(row), names[predictions.labels[row]], names[said[row]])
            )
    else:
        said = (chances >= 0.5).astype(int)
        wrong = ~np.isnan(predictions.labels) & (said != predictions.labels)
        for row, place in zip(*np.nonzero(wrong), strict=True):
            words = (f"no {names[place]}", names[place])
            yes = int(said[row, place])
            sure = float(max(chances[row, place], 1 - chances[row, place]))
            found.append((sure, int(row), words[1 - yes], words[yes]))
    found.sort(key=lambda each: (-each[0], each[1]))
    return tuple(
        ConfidentError(str(predictions.ids[row]), str(predictions.groups[row]), true, decided, sure)
        for sure, row, true, decided in found[:most]
    )
