"""The exhaustive search and the two-stage hierarchical one of the TTL paper (Peng et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ttl_jax.models import Unit
from ttl_jax.search.protocol import (
    Outcome,
    Plan,
    Request,
    SearchResult,
    checked_stages,
    follow,
    highest,
    indices,
    one_by_one,
)


def exhaustive_plan(units: Iterable[int | Unit], *, maximize: bool = True) -> Plan:
    """Every unit once."""
    candidates, sign = indices(units), 1.0 if maximize else -1.0
    answers = yield tuple(Request(unit) for unit in candidates)
    scores = {request.unit: sign * score for request, score in answers.items()}
    best = highest(scores)
    return Outcome(best, sign * scores[best], (best,), "every unit was tried")


def two_stage_plan(
    stages: Iterable[int | Unit], units: Iterable[int | Unit], *, maximize: bool = True
) -> Plan:
    """The best stage boundary, then every unit of the stages on both sides of it."""
    candidates, sign = indices(units), 1.0 if maximize else -1.0
    boundaries = checked_stages(stages, candidates)
    answers = yield tuple(Request(unit) for unit in boundaries)
    scores = {request.unit: sign * score for request, score in answers.items()}
    coarse = highest(scores)
    place = boundaries.index(coarse)
    low = boundaries[place - 1] if place else 0
    high = boundaries[place + 1] if place + 1 < len(boundaries) else coarse
    beside = tuple(unit for unit in candidates if low < unit <= high and unit not in scores)
    if beside:
        answers = yield tuple(Request(unit) for unit in beside)
        scores |= {request.unit: sign * score for request, score in answers.items()}
    best = highest(scores)
    return Outcome(
        best, sign * scores[best], (coarse, best), f"every unit of the stages beside unit {coarse} was tried"
    )


def exhaustive(
    objective: Callable[[int], float], units: Iterable[int | Unit], *, maximize: bool = True
) -> SearchResult:
    """Tries every unit.

    Args:
        objective: unit index -> score, called once a unit; NaN says that the training failed.
        units: candidates, as 1-based indices or as `models.units` gives them.
        maximize: True where high scores are good, False where low ones are.

    Raises:
        UserError: no units, or every training failed.
    """
    plan = exhaustive_plan(units, maximize=maximize)
    return follow(plan, one_by_one(lambda request: objective(request.unit)))


def two_stage(
    objective: Callable[[int], float],
    stages: Iterable[int | Unit],
    units: Iterable[int | Unit],
    *,
    maximize: bool = True,
) -> SearchResult:
    """Two-stage hierarchical search (Peng et al. 2023, TTL; reconstructed from its result table).

    Stage one scores the stage boundaries. Stage two scores every unit of the one or two stages that
    the best boundary touches; the best of all scored units wins.

    Args:
        objective: unit index -> score, called once a unit; NaN says that the training failed.
        stages: the boundaries, as 1-based indices or as `models.stages` gives them (ResNet-50: 4, 8,
            14, 17).
        units: candidates, as 1-based indices or as `models.units` gives them.
        maximize: True where high scores are good, False where low ones are.

    Returns:
        `best`, `rounds` = (best boundary, best unit), `trials`, `cost` in trainings.

    Raises:
        UserError: a boundary that is no unit, or every training failed.
    """
    plan = two_stage_plan(stages, units, maximize=maximize)
    return follow(plan, one_by_one(lambda request: objective(request.unit)))
