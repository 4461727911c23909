"""Influences of examples and patients on a metric: the infinitesimal jackknife, in O(n log n).

The figure of another sample of patients differs by about the sum of the influences drawn. The influences
of a patient's examples (see `terms`) are summed; their products over patients are the
variances and covariances of several runs' figures on the same patients: for AUROC those of DeLong (1988),
with clusters those of Obuchowski (1997, Biometrics 53:567).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ttl_jax.evaluation import registry
from ttl_jax.evaluation.outcomes import outcomes
from ttl_jax.evaluation.probability import Task
from ttl_jax.evaluation.terms import Kind
from ttl_jax.typing import Bool, Float, Int, Shaped


@dataclass(frozen=True)
class Influence:
    """A metric of several runs on the same examples, and the influence of each group of examples on it.

    Attributes:
        values: the metric, as `score` gives it; NaN where it is not defined.
        groups: the influence of every group: squared and summed they are the variance of `values`; NaN where
            a class whose examples count apart stands in one group alone, of which nothing can be said.
    """

    values: Float[np.ndarray, "runs"]
    groups: Float[np.ndarray, "runs groups"]


def influence(
    labels: Shaped[np.ndarray, "..."],
    logits: Float[np.ndarray, "runs n c"],
    groups: Shaped[np.ndarray, "n"],
    metric: str = "auroc",
    task: Task = "multiclass",
) -> Influence:
    """The metric of each run and the influence of each group of examples on it.

    The influences of a class's examples are stretched by sqrt(m / (m - 1)), m the groups that hold the class,
    as in DeLong's variance: without that a class of ten would look a tenth too sure. For shares and errors of
    all examples these are one class.

    Args:
        labels: int (N,) or float (N, L) with NaN for unknown.
        logits: (R, N, C), of several runs on the same examples.
        groups: (N,) names or numbers of patients.
        metric: name of a metric that has `terms`.
        task: form of the labels.

    Raises:
        ValueError: shapes that differ, a metric that has none.
    """
    seen = outcomes(labels, logits, task)
    names, place = _places(groups, len(seen.labels))
    values, moved = [], []
    for term in registry.terms_of(metric)(seen):
        each = term.influences * _stretch(term.strata, place[term.seen])
        values.append(term.values)
        moved.append([np.bincount(place[term.seen], weights=row, minlength=len(names)) for row in each])
    if not values:
        return Influence(seen.undefined, np.full((seen.models, len(names)), np.nan))
    return Influence(np.mean(values, axis=0), np.mean(moved, axis=0))


def jackknife(
    labels: Shaped[np.ndarray, "..."],
    logits: Float[np.ndarray, "runs n c"],
    groups: Shaped[np.ndarray, "n"],
    metric: str,
    task: Task = "multiclass",
) -> Influence:
    """The same for any metric, by leaving out one group at a time (Efron & Stein 1981, Ann. Stat. 9:586).

    It computes the metric once for each of G groups; sums of squares of the influences, sqrt((G - 1) / G)
    times the gaps to their mean, are the jackknife's variance. It is that of a metric that changes smoothly
    with the examples: not of a median or a maximum.

    Args:
        labels, logits, groups, task: the same arguments as those of `influence`.
        metric: name of any metric.

    Returns:
        influences of NaN where the metric is undefined without one of the groups.
    """
    chosen, seen = registry.metric(metric), outcomes(labels, logits, task)
    names, place = _places(groups, len(seen.labels))
    without = [
        chosen.values(outcomes(seen.labels[kept], seen.logits[:, kept], task, seen.class_names))
        for kept in (place != group for group in range(len(names)))
    ]
    gaps = np.mean(without, axis=0) - np.array(without)
    return Influence(chosen.values(seen), np.sqrt((len(names) - 1) / len(names)) * gaps.T)


@dataclass(frozen=True)
class Linearised:
    """A metric's value, the influence of each of the N examples, and what it is a mean over.

    Attributes:
        estimate: value of the metric.
        values: influence of each example, a derivative by its weight.
        classes: `MetricTerm.classes` of each of its terms, over all N examples.
        kind: `MetricTerm.kind` of its terms.
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


def _places(groups: Shaped[np.ndarray, "n"], count: int) -> tuple[np.ndarray, Int[np.ndarray, "n"]]:
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    if len(place) != count:
        raise ValueError(f"{count} labels and {len(place)} groups")
    return names, place


def _stretch(kinds: Shaped[np.ndarray, "n"], place: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """sqrt(m / (m - 1)) of every example, m the groups that hold its kind; NaN where that is one."""
    made = np.empty(len(kinds))
    for kind in np.unique(kinds):
        held = len(np.unique(place[kinds == kind]))
        made[kinds == kind] = np.sqrt(held / (held - 1)) if held > 1 else np.nan
    return made
