"""The influence of each example on one model's metric, from which a clustered variance follows.

The figure of another sample of patients differs by about the sum of the influences drawn (see `terms`), so
that its variance is that of the patients' sums (the infinitesimal jackknife; Efron 1982, chapter 6): for
AUROC DeLong's, with patients the form of Obuchowski 1997 (Biometrics 53:567).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ttl_jax.evaluation import registry
from ttl_jax.evaluation.outcomes import outcomes
from ttl_jax.evaluation.probability import Task
from ttl_jax.evaluation.terms import Kind
from ttl_jax.typing import Bool, Float, Shaped


@dataclass(frozen=True)
class Linearised:
    """A metric's value, the influence of each of the N examples, and what it is a mean over.

    Attributes:
        estimate: value of the metric.
        values: influence of each example, a derivative by its weight.
        classes: `Term.classes` of each of its terms, over all N examples.
        kind: `Term.kind` of its terms.
    """

    estimate: float
    values: Float[np.ndarray, "n"]
    classes: tuple[tuple[Bool[np.ndarray, "n"], ...], ...]
    kind: Kind


def linearise(
    labels: Shaped[np.ndarray, "..."],
    logits: Float[np.ndarray, "examples classes"],
    metric: str,
    task: Task = "multiclass",
) -> Linearised | None:
    """The influence of each example on a metric, as `score` defines it.

    Args:
        labels: int (N,) or float (N, L) with NaN for unknown.
        logits: (N, C) or (N, L), unscaled.
        metric: name of a metric that has `terms`.
        task: "multiclass" or "multilabel".

    Returns:
        None where the metric is not defined.

    Raises:
        ValueError: a metric that has none, shapes or values that do not fit.
    """
    terms = registry.terms_of(metric)
    seen = outcomes(labels, np.asarray(logits)[None], task)
    if not len(seen.labels):
        return None
    defined = [term for term in terms(seen) if np.isfinite(term.values[0])]
    if not defined:
        return None
    moved = [_over(term.seen, term.influences[0], 0.0) for term in defined]
    classes = [
        tuple(_over(term.seen, one, False) for one in part) for term in defined for part in term.classes
    ]
    estimate = float(np.mean([term.values[0] for term in defined]))
    return Linearised(estimate, np.mean(moved, axis=0), tuple(classes), defined[0].kind)


def _over(seen: Bool[np.ndarray, "n"], values: Shaped[np.ndarray, "k"], other: Any) -> np.ndarray:
    """The values of the examples that are seen, `other` for the rest."""
    whole = np.full(len(seen), other)
    whole[seen] = values
    return whole
