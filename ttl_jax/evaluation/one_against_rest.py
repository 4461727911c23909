"""Predictions as two-class questions: is it this class, or one of the others?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttl_jax.evaluation.predictions import Predictions
from ttl_jax.evaluation.probability import log_odds
from ttl_jax.typing import Bool, Float, Shaped


@dataclass(frozen=True)
class Question:
    """One class (or label) against the rest, over the examples where the answer is known.

    Attributes:
        name: name of the class.
        truth: True for examples of the class.
        odds: log odds of it: they rank as the probabilities do, and do not tie where these round to 1.
        groups: patients.
    """

    name: str
    truth: Bool[np.ndarray, "n"]
    odds: Float[np.ndarray, "n"]
    groups: Shaped[np.ndarray, "n"]

    @property
    def chances(self) -> Float[np.ndarray, "n"]:
        """Probabilities of the class."""
        return np.exp(-np.logaddexp(0.0, -self.odds))


def questions(predictions: Predictions, temperature: float = 1.0) -> tuple[Question, ...]:
    """One question a class or label, in their order; of two classes the second alone.

    Args:
        predictions: logits and labels of one split.
        temperature: the logits are divided by it first.
    """
    odds = log_odds(predictions.logits / temperature, predictions.task)
    labels, several = predictions.labels, predictions.task == "multilabel"
    everyone = np.ones(len(predictions), bool)
    made = []
    for place, name in enumerate(predictions.class_names):
        known = ~np.isnan(labels[:, place]) if several else everyone
        truth = labels[known, place] == 1 if several else labels == place
        made.append(Question(name, truth, odds[known, place], predictions.groups[known]))
    return tuple(made[1:] if not several and len(made) == 2 else made)
