"""What a search asks for, what it is told, and what it says at the end.

A search is a generator (a `Plan`): it yields the requests that may run side by side and is sent their
scores. So one and the same search runs on a function, on a table, or on processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ttl_jax.errors import UserError
from ttl_jax.models import Unit


class Request(NamedTuple):
    """One training to be scored.

    Attributes:
        unit: 1-based index of the unit.
        budget: share of a whole training after which the score is taken, above 0 up to 1.
        seed: of the training.
    """

    unit: int
    budget: float = 1.0
    seed: int = 0


class Trial(NamedTuple):
    """A request with its answer.

    Attributes:
        unit, budget, seed: as asked.
        score: as the objective gave it; NaN where the training failed.
        cost: what this request added to the search's cost, in whole trainings (times the unit's
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
        score: its mean score over seeds, at the whole budget.
        trials: in the order in which they ran.
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
    """What a plan concludes; `follow` adds the trials."""

    best: int
    score: float
    rounds: tuple[int, ...]
    reason: str


Plan = Generator[tuple[Request, ...], Mapping[Request, float], Outcome]
Evaluate = Callable[[tuple[Request, ...]], Sequence[float]]


def follow(
    plan: Plan,
    evaluate: Evaluate,
    *,
    done: Mapping[Request, float] | None = None,
    effort: Mapping[int, float] | None = None,
) -> SearchResult:
    """Runs a plan to its end.

    Args:
        plan: see `two_stage_plan`, `exhaustive_plan`, `halving_plan`.
        evaluate: scores of requests that may run side by side, in their order.
        done: trials that exist already: they are not asked for again and cost nothing.
        effort: what a whole training costs, by unit; 1 each when not given.

    Raises:
        UserError: every training of the search failed.
    """
    known = dict(done or {})
    spent: dict[tuple[int, int], float] = {}
    for request in known:
        key = (request.unit, request.seed)
        spent[key] = max(request.budget, spent[key] if key in spent else 0.0)
    trials: list[Trial] = []
    try:
        wanted = next(plan)
        while True:
            new = tuple(request for request in dict.fromkeys(wanted) if request not in known)
            known |= dict(zip(new, evaluate(new), strict=True)) if new else {}
            for request in wanted:
                key = (request.unit, request.seed)
                before = spent[key] if key in spent else 0.0
                share = max(request.budget - before, 0.0)
                spent[key] = max(request.budget, before)
                cost = share * (1.0 if effort is None else effort[request.unit])
                trials.append(Trial(request.unit, known[request], request.budget, request.seed, cost))
            wanted = plan.send({request: known[request] for request in wanted})
    except StopIteration as end:
        outcome: Outcome = end.value
    return SearchResult(
        outcome.best,
        outcome.score,
        tuple(trials),
        outcome.rounds,
        math.fsum(trial.cost for trial in trials),
        outcome.reason,
    )


def one_by_one(score: Callable[[Request], float]) -> Evaluate:
    """An evaluation that takes requests in turn."""
    return lambda requests: [float(score(request)) for request in requests]


def indices(units: Iterable[int | Unit]) -> tuple[int, ...]:
    """Sorted 1-based indices of units given as numbers or as `models.units` has them.

    Raises:
        UserError: there are none.
    """
    found = sorted({unit.index if isinstance(unit, Unit) else int(unit) for unit in units})
    if not found:
        raise UserError("a search needs at least one unit to try")
    return tuple(found)


def checked_stages(stages: Iterable[int | Unit], units: Sequence[int]) -> tuple[int, ...]:
    """Sorted stage boundaries, all of them units.

    Raises:
        UserError: naming a boundary that is no unit.
    """
    found = indices(stages)
    for stage in found:
        if stage not in units:
            raise UserError(f"stage boundary {stage} is not among the units to try: {list(units)}")
    return found


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
