"""Protocol of a search: its requests, their scores, and its outcome.

A search is a generator (a `Plan`): it yields the requests that may run side by side and is sent their
scores. So one and the same search runs on a function, on a table, or on processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ttl_jax.errors import UserError
from ttl_jax.models import Unit


class Request(NamedTuple):
    """One training to be scored.

    Attributes:
        unit: 1-based index of the unit.
        budget: share of a whole training after which the score is taken, above 0 up to 1.
        seed: PRNG seed of the training.
    """

    unit: int
    budget: float = 1.0
    seed: int = 0


class Trial(NamedTuple):
    """A request with its answer.

    Attributes:
        unit, budget, seed: those of the request.
        score: the objective's score; NaN where the training failed.
        cost: cost that this request added to the search's, in whole trainings (times the unit's
            effort); a training that goes on from a smaller budget costs the difference, a trial that
            was there already nothing.
    """

    unit: int
    score: float
    budget: float = 1.0
    seed: int = 0
    cost: float = 1.0


@dataclass(frozen=True)
class SearchResult:
    """The end of a search.

    Attributes:
        best: 1-based index of the unit that won.
        score: mean score of that unit over seeds, at the whole budget.
        trials: the trials, in the order in which they ran.
        rounds: the best unit after each round (two-stage: after stage one, after stage two).
        cost: sum of the trials' costs.
        reason: why the search ended.
    """

    best: int
    score: float
    trials: tuple[Trial, ...]
    rounds: tuple[int, ...]
    cost: float
    reason: str


@dataclass(frozen=True)
class Outcome:
    """The conclusion of a plan; `follow` adds the trials."""

    best: int
    score: float
    rounds: tuple[int, ...]
    reason: str


Plan = Generator[tuple[Request, ...], Mapping[Request, float], Outcome]
Evaluate = Callable[[tuple[Request, ...]], Sequence[float]]
Onward = Callable[[float], float | None]
Climb = Callable[[Request, Onward], float]


def follow(
    plan: Plan,
    evaluate: Evaluate,
    *,
    climb: Climb | None = None,
    done: Mapping[Request, float] | None = None,
    effort: Mapping[int, float] | None = None,
) -> SearchResult:
    """Runs a plan to its end.

    Args:
        plan: a plan from `two_stage_plan`, `exhaustive_plan`, `halving_plan` or `bayesian_plan`.
        evaluate: scores of requests that may run side by side, in their order.
        climb: scores a request that is asked for alone. Before it ends the training it may tell the score to
            `onward`, which answers with the budget to train on to, where the plan asks for more of the same
            training next: that budget's score is then what it returns, or tells in turn.
        done: trials that exist already: they are not asked for again and cost nothing.
        effort: cost of a whole training, by unit; 1 each when not given.

    Raises:
        UserError: every training of the search failed.
    """
    course = _Course(plan, effort, dict(done or {}))
    course.begin()
    while course.outcome is None:
        new = course.unknown()
        if climb is not None and new and len(course.wanted) == 1:
            course.climb(climb)
        else:
            course.answer(dict(zip(new, evaluate(new), strict=True)) if new else {})
    outcome = course.outcome
    return SearchResult(
        outcome.best,
        outcome.score,
        tuple(course.trials),
        outcome.rounds,
        math.fsum(trial.cost for trial in course.trials),
        outcome.reason,
    )


@dataclass
class _Course:
    """A plan under way.

    Attributes:
        plan: the plan that is followed.
        effort: cost of a whole training, by unit; None: 1 each.
        known: score by request.
        spent: budget by unit and seed.
        trials: the trials, in the order of the requests.
        wanted: the requests that the plan waits for.
        outcome: the plan's outcome; None until it has ended.
    """

    plan: Plan
    effort: Mapping[int, float] | None
    known: dict[Request, float]
    spent: dict[tuple[int, int], float] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    wanted: tuple[Request, ...] = ()
    outcome: Outcome | None = None

    def begin(self) -> None:
        """Hears the plan's first requests."""
        for request in self.known:
            key = (request.unit, request.seed)
            self.spent[key] = max(request.budget, self.spent[key] if key in self.spent else 0.0)
        try:
            self.wanted = next(self.plan)
        except StopIteration as end:
            self.outcome = end.value

    def unknown(self) -> tuple[Request, ...]:
        """The requests that are still to be evaluated."""
        return tuple(request for request in dict.fromkeys(self.wanted) if request not in self.known)

    def answer(self, scores: Mapping[Request, float]) -> None:
        """Tells the plan the scores of what it wanted; of those that were known too."""
        self.known |= scores
        for request in self.wanted:
            key = (request.unit, request.seed)
            before = self.spent[key] if key in self.spent else 0.0
            share = max(request.budget - before, 0.0)
            self.spent[key] = max(request.budget, before)
            cost = share * (1.0 if self.effort is None else self.effort[request.unit])
            self.trials.append(Trial(request.unit, self.known[request], request.budget, request.seed, cost))
        try:
            self.wanted = self.plan.send({request: self.known[request] for request in self.wanted})
        except StopIteration as end:
            self.outcome, self.wanted = end.value, ()

    def climb(self, climb: Climb) -> None:
        """Evaluates the one request that is wanted, and those that the same training answers after it."""
        request: Request | None = self.wanted[0]

        def onward(score: float) -> float | None:
            nonlocal request
            assert request is not None, "asked again after the end"
            before, request = request, None
            self.answer({before: score})
            if len(self.wanted) == 1 and self.wanted == self.unknown():
                (following,) = self.wanted
                if following[0::2] == before[0::2] and following.budget > before.budget:  # unit and seed
                    request = following
            return None if request is None else request.budget

        score = climb(self.wanted[0], onward)
        if request is not None:
            self.answer({request: score})


def upcoming(make_plan: Callable[[], Plan], known: Mapping[Request, float], asked: Request) -> Request | None:
    """Predict the plan's next request, of another unit or seed, once a request is answered.

    Neighbouring units score alike: the answer is taken to lie between those of the nearest units at that
    budget. Should the same training then go on, it is taken to fall behind instead.

    Args:
        make_plan: returns the plan, at its start.
        known: scores so far, by request.
        asked: the request whose score is still to come.

    Returns:
        The request; None where the plan would end.
    """
    valid = {request: score for request, score in known.items() if not math.isnan(score)}
    lowest = min(valid.values(), default=0.0)
    level = {request.unit: score for request, score in valid.items() if request[1:] == asked[1:]}
    units = sorted(level)
    between = float(np.interp(asked.unit, units, [level[unit] for unit in units])) if units else lowest
    following = _next_unknown(make_plan(), {**known, asked: between})
    if following is not None and following[0::2] == asked[0::2]:  # unit and seed
        following = _next_unknown(make_plan(), {**known, asked: lowest})
    return following


def _next_unknown(plan: Plan, known: Mapping[Request, float]) -> Request | None:
    """The first request of a plan, from its start, that is not known; None where it ends before one."""
    try:
        wanted = next(plan)
        while True:
            new = [request for request in wanted if request not in known]
            if new:
                return new[0]
            wanted = plan.send({request: known[request] for request in wanted})
    except StopIteration:
        return None


def one_by_one(score: Callable[[Request], float]) -> Evaluate:
    """An evaluation that takes requests in turn."""
    return lambda requests: [float(score(request)) for request in requests]


def indices(units: Iterable[int | Unit]) -> tuple[int, ...]:
    """Sorted 1-based indices of units given as numbers or as `models.units` has them.

    Raises:
        UserError: there are none.
    """
    numbers = sorted({unit.index if isinstance(unit, Unit) else int(unit) for unit in units})
    if not numbers:
        raise UserError("a search needs at least one unit to try")
    return tuple(numbers)


def checked_stages(stages: Iterable[int | Unit], units: Sequence[int]) -> tuple[int, ...]:
    """Sorted stage boundaries, all of them units.

    Raises:
        UserError: naming a boundary that is no unit.
    """
    numbers = indices(stages)
    for stage in numbers:
        if stage not in units:
            raise UserError(f"stage boundary {stage} is not among the units to try: {list(units)}")
    return numbers


def highest(scores: Mapping[int, float]) -> int:
    """The unit with the highest score; the lowest of equals; NaN never wins.

    Raises:
        UserError: all are NaN.
    """
    valid = {unit: score for unit, score in scores.items() if not math.isnan(score)}
    if not valid:
        raise UserError("every training of the search failed; its log says why (units: "
                        f"{', '.join(map(str, sorted(scores)))})")  # fmt: skip
    return max(sorted(valid), key=lambda unit: valid[unit])
