"""The subject of a search, read from its config, and the plan by which it asks for trainings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ttl_jax import strategies
from ttl_jax.config import RunConfig, typed
from ttl_jax.errors import UserError
from ttl_jax.evaluation.registry import metric
from ttl_jax.search.bayesian import WHOLE, bayesian_plan
from ttl_jax.search.candidates import Point, boundaries, chosen, points
from ttl_jax.search.config import SearchConfig, SearchOptions
from ttl_jax.search.finalists import Terms
from ttl_jax.search.halving import halving_plan
from ttl_jax.search.posterior import posterior
from ttl_jax.search.protocol import Outcome, Plan, Request, SearchResult
from ttl_jax.search.two_stage import exhaustive_plan, two_stage_plan
from ttl_jax.training.records import provenance
from ttl_jax.training.run import check

if TYPE_CHECKING:
    from ml_collections import ConfigDict

SEEDED = ("bayesian", "halving")  # those that train finalists with more seeds


@dataclass(frozen=True)
class Subject:
    """The subject of a search, read from its config.

    Attributes:
        run: the config of its trainings, without the `search` part.
        options: the `search` part.
        points: candidate of each unit.
        stages: stage boundaries among the candidates.
        sign: 1 where high values of the metric selected by are good, -1 where low ones are.
    """

    run: RunConfig
    options: SearchOptions
    points: dict[int, Point]
    stages: tuple[int, ...]
    sign: float

    def trial(self, request: Request) -> RunConfig:
        """The config of one training."""
        return replace(self.run, strategy=self.points[request.unit].strategy, seed=request.seed)


def read(config: ConfigDict | SearchConfig) -> Subject:
    """Checks a search's config.

    Raises:
        UserError: naming the field.
    """
    config = typed(SearchConfig, config)
    options = config.search
    if options.seeds > 1 and options.method not in SEEDED:
        raise UserError(
            f"config search.seeds={options.seeds} is for method=halving and method=bayesian; the "
            f"{options.method} search trains each unit once"
        )
    run = check(provenance.settled(replace(config, report=False)))
    base = strategies.text_of(run.strategy)
    by_unit = {point.unit: point for point in points(options.kind, run.model.name, base)}
    if options.units:
        by_unit = {unit: by_unit[unit] for unit in chosen(options.units, tuple(by_unit), "search.units")}
    stages = (
        chosen(options.stages, tuple(by_unit), "search.stages")
        if options.stages
        else boundaries(run.model.name, tuple(by_unit))
    )
    return Subject(run, options, by_unit, stages, metric(run.select).sign)


def plan_for(subject: Subject) -> Plan:
    """The search as a plan over values: score, less weight times price, high is good."""
    return plan_of(subject.options, subject.run, subject.stages, tuple(subject.points))


def plan_of(options: SearchOptions, run: RunConfig, stages: Sequence[int], units: Sequence[int]) -> Plan:
    """The plan that a config asks for.

    Args:
        options: the `search` part of the config.
        run: the config of its trainings (seed, epochs, validations).
        stages: boundaries among the units.
        units: candidates.

    Raises:
        UserError: naming what is out of range.
    """
    if options.method == "exhaustive":
        return _seeded(exhaustive_plan(units), run.seed)
    if options.method == "two_stage":
        return _seeded(two_stage_plan(stages, units), run.seed)
    terms = Terms(
        seeds=tuple(range(run.seed, run.seed + options.seeds)),
        finalists=options.finalists,
        allowance=max(options.allowance * len(units), WHOLE),
        confidence=options.confidence,
        tolerance=options.tolerance,
        width=options.workers,
    )
    if options.method == "bayesian":
        return bayesian_plan(units, terms, pilot=validated((options.pilot,), run)[0])
    return halving_plan(stages, units, terms, rungs=validated(options.rungs, run), eta=options.eta)


def is_sure(options: SearchOptions, units: Sequence[int], result: SearchResult) -> bool:
    """Return whether no unit beats the chosen one by more than the tolerance, at the config's confidence.

    The posterior's answer, which depends on the trials, not on who asked for them. Never after halving:
    of the few claims that its trials allow, 3 of 38 were wrong in simulations (docs/search.md).
    """
    if options.method == "halving":
        return False
    scores = {request_of(trial): trial.score for trial in result.trials}
    return posterior(units, scores, options.tolerance).sure(result.best, options.confidence)


def validated(rungs: Sequence[float], run: RunConfig) -> tuple[float, ...]:
    """The rungs, each moved up to the next share of the training at which it is validated.

    There a trial pauses; a rung between would be said to cost less than it does.
    """
    if run.total_steps > 0:  # how many epochs that is depends on the data
        return tuple(float(rung) for rung in rungs)
    every = run.eval_every_epochs / run.total_epochs
    return tuple(dict.fromkeys(min(1.0, math.ceil(rung / every - 1e-6) * every) for rung in rungs))


def _seeded(plan: Plan, seed: int) -> Plan:
    """A plan that asks for seed 0, asking for another one."""
    answers: Mapping[Request, float] | None = None
    while True:
        try:
            wanted = next(plan) if answers is None else plan.send(answers)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        given = yield tuple(request._replace(seed=seed) for request in wanted)
        answers = {request: given[request._replace(seed=seed)] for request in wanted}


def request_of(trial: Any) -> Request:
    """Return the request that a trial answered."""
    return Request(trial.unit, trial.budget, trial.seed)
