"""Metrics: one entry each, from which training, comparisons, searches, tables and reports read.

    @register("metric")
    @of_counts("macro specificity")
    def specificity_macro(counts): ...

    @register("metric")
    def hits(labels, probabilities): ...

The entries of this package are in `evaluation.metrics`. `merit` is the one order in which weights, trials and
runs are chosen by a metric on validation.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ttl_jax import registry
from ttl_jax.errors import UserError
from ttl_jax.evaluation.outcomes import Outcomes
from ttl_jax.evaluation.probability import Task
from ttl_jax.evaluation.terms import OfCounts, OfErrors, Terms, count_terms, defined_counts, error_terms
from ttl_jax.typing import Float

Function = Callable[[Outcomes], Float[np.ndarray, "models"]]
RESERVED = ("n", "per_class", "absent", "step", "split", "epoch", "phase")  # keys beside metrics in results


@dataclass(frozen=True)
class Metric:
    """A metric of predictions.

    Attributes:
        name: key in result.json, and value of config.select.
        title: name in tables and figures.
        function: its value for each of several models, NaN where it is undefined.
        terms: the influence of each example, for intervals and tests (see `terms`); None: no interval of one
            model is given, and differences are tested by a jackknife over patients.
        higher_is_better: None where neither is: it cannot be selected by.
        bounds: lowest and highest value.
        tasks: forms of labels for which it is defined.
        in_table: a column in the terminal and in `analyze table`.
        in_comparison: a column in the tables of a comparison.
        in_report: a column in the report's table of results.
        chance: name of the figure that a ranking by chance would reach, shown beside it.
        definition: the function that it was made of.
    """

    name: str
    title: str
    function: Function
    terms: Terms | None = None
    higher_is_better: bool | None = True
    bounds: tuple[float, float] = (0.0, 1.0)
    tasks: tuple[Task, ...] = ("multiclass", "multilabel")
    in_table: bool = True
    in_comparison: bool = True
    in_report: bool = True
    chance: str = ""
    definition: Callable[..., Any] | None = None

    @property
    def __name__(self) -> str:  # what `register` calls it
        return self.name

    @property
    def __wrapped__(self) -> Callable[..., Any]:  # whose source `inspect` finds
        return self.definition or self.function

    @property
    def explanation(self) -> str:
        """The first paragraph of its docstring, as the report's list of terms has it; "" without one."""
        return " ".join(inspect.cleandoc(self.__wrapped__.__doc__ or "").partition("\n\n")[0].split())

    @property
    def sign(self) -> float:
        """1 where high values are good, -1 where low ones are."""
        return -1.0 if self.higher_is_better is False else 1.0

    def values(self, seen: Outcomes) -> Float[np.ndarray, "models"]:
        """Of each model; NaN where the metric is undefined, or not for this task."""
        return self.function(seen) if seen.task in self.tasks else seen.undefined


def of_outcomes(title: str, *, terms: Terms | None = None, **about: Any) -> Callable[[Function], Metric]:
    """Makes a metric of a function of `Outcomes`; a decorator.

    Args:
        title: name in tables and figures.
        terms: influences of examples, see `Metric`.
        about: other fields of `Metric`.
    """
    return lambda function: Metric(
        function.__name__, title, function, terms, **{"definition": function} | about
    )


def of_counts(
    title: str, *, of_label: OfCounts | None = None, kinds: int = 2, **about: Any
) -> Callable[[OfCounts], Metric]:
    """Makes a metric of a function of confusion counts, and its influences; a decorator.

    The function takes float tables (T, K, K), rows true and columns decided, and gives T values. It has to be
    smooth. With several labels the metric is the mean over the labels' tables (K = 2).

    Args:
        title: name in tables and figures.
        of_label: another function for a label's table.
        kinds: how many kinds of examples a label must have to count; 1 for a share of all examples.
        about: other fields of `Metric`.
    """

    def make(function: OfCounts) -> Metric:
        each = of_label or function

        def values(seen: Outcomes) -> Float[np.ndarray, "models"]:
            of_tables = [
                (each if seen.multilabel else function)(counts) for _, counts in defined_counts(seen, kinds)
            ]
            return np.mean(of_tables, axis=0) if of_tables else seen.undefined

        terms = count_terms(function, each, kinds)
        return Metric(function.__name__, title, values, terms, **{"definition": function} | about)

    return make


def of_errors(title: str, **about: Any) -> Callable[[OfErrors], Metric]:
    """Makes a metric, the lower the better, of a function of `Outcomes` to an error an example; a decorator.

    Args:
        title: name in tables and figures.
        about: other fields of `Metric`.
    """

    def make(errors: OfErrors) -> Metric:
        def values(seen: Outcomes) -> Float[np.ndarray, "models"]:
            each = errors(seen)
            each = each[:, seen.known] if seen.multilabel else each
            return each.mean(axis=1) if each.shape[1] else seen.undefined

        fields: dict[str, Any] = {"higher_is_better": False, "definition": errors} | about
        return Metric(errors.__name__, title, values, error_terms(errors), **fields)

    return make


def metrics() -> tuple[Metric, ...]:
    """Every registered metric, in the order of registration."""
    return tuple(_made(name, registry.get("metric", name)) for name in registry.names("metric"))


def metric(name: str) -> Metric:
    """Looks a metric up.

    Args:
        name: registered, or FILE.py:NAME; such a file is run where nothing of that NAME is known yet.

    Raises:
        UserError: there is none of this name (the nearest is told).
    """
    key = key_of(name)
    return _made(key, registry.get("metric", key if key in registry.names("metric") else _taken(name)))


def selectable(name: str) -> Metric:
    """Looks up the metric of config.select; its FILE.py is run again where it has changed.

    Raises:
        UserError: it is unknown, or says nothing of better and worse.
    """
    chosen = metric(_taken(name, f"config select={name!r}"))
    if chosen.higher_is_better is None:
        raise UserError(f"config select={name!r} says nothing of which model is better")
    return chosen


def _taken(name: str, fault: str = "") -> str:
    """Registers FILE.py:NAME under its NAME, where the file itself does not."""
    key, value = key_of(name), registry.get("metric", name, fault)
    if key not in registry.names("metric") or registry.get("metric", key) is not value:
        _made(key, value)  # refused before it is listed, else every later look at the list would fail
        registry.register("metric", key)(value)
    return key


def terms_of(name: str) -> Terms:
    """The terms of a registered metric.

    Raises:
        ValueError: it is unknown or has none.
    """
    having = {each.name: each.terms for each in metrics() if each.terms is not None}
    if key_of(name) not in having:
        raise ValueError(f"metric is one of {', '.join(having)}, not {name!r}")
    return having[key_of(name)]


def known_metric(name: str) -> Metric:
    """The metric of a name in a result file; one that is unknown here is taken for a high-is-good one.

    No FILE.py is run for it: whoever reads results does not run what they name.
    """
    key = key_of(name)
    if key in registry.names("metric"):
        return metric(key)
    return Metric(key, key.replace("_", " "), lambda seen: seen.undefined)


def metrics_in(scores: Iterable[Mapping[str, Any]]) -> tuple[Metric, ...]:
    """The metrics that some scores hold: those registered in their order, then those known there alone."""
    numbers = {
        name: None
        for each in scores
        for name, value in each.items()
        if (value is None or isinstance(value, int | float)) and name not in RESERVED
    }
    listed = [each for each in metrics() if numbers.pop(each.name, 0) is None]
    return *listed, *map(known_metric, numbers)


def key_of(name: str) -> str:
    """The key of a metric in scores: config.select without the FILE.py: before it."""
    return name.rpartition(":")[2]


def _made(name: str, value: Any) -> Metric:
    """A registered value as a `Metric`; a plain function takes (labels, probabilities) of one model."""
    if isinstance(value, Metric):
        return value
    if name in RESERVED or not callable(value):
        raise UserError(f"the metric {name!r} has to be a function or a Metric, and not a key of results")

    def values(seen: Outcomes) -> Float[np.ndarray, "models"]:
        each = [value(seen.labels, chances) for chances in seen.probabilities]
        return np.array([np.nan if one is None else float(one) for one in each])

    return Metric(name, name.replace("_", " "), values, definition=value)


class Merit(NamedTuple):
    """The order of weights by their validation scores. Merits compare as tuples: the greater is the better.

    Weights of equal merit cannot be told apart on validation; those that trained longer are taken.

    Attributes:
        figure: the metric selected by, turned so that higher is better; minus the loss where undefined.
        minus_loss: minus the validation loss; it decides between equal figures.
    """

    figure: float
    minus_loss: float


def merit(scores: Mapping[str, Any], select: str) -> Merit:
    """The merit of weights with these validation scores.

    A metric that is undefined (None or NaN) is so for every model: that depends on the split's labels
    alone. The loss then stands in for it. A loss that is undefined is worse than any other.

    Args:
        scores: result of `evaluation.score` on the validation split.
        select: config.select, the name of a metric.
    """
    chosen = known_metric(select)
    minus_loss = _defined(scores["loss"], -1.0, -math.inf)
    return Merit(_defined(scores[chosen.name], chosen.sign, minus_loss), minus_loss)


def deciding(scores: Mapping[str, Any], select: str) -> str:
    """The metric that `merit` goes by: `select`, or "loss" where that is undefined."""
    chosen = known_metric(select).name
    return "loss" if scores[chosen] is None or math.isnan(scores[chosen]) else chosen


def figure(scores: Mapping[str, Any], select: str) -> float:
    """`Merit.figure` in the direction of `select`: its value as it is, or what stands in for it.

    Returns:
        of an undefined AUROC minus the loss, of an undefined ECE the loss; NaN where that is undefined too.
    """
    value = known_metric(select).sign * merit(scores, select).figure
    return value if math.isfinite(value) else math.nan


def _defined(value: float | None, sign: float, otherwise: float) -> float:
    return otherwise if value is None or math.isnan(value) else sign * float(value)
