"""Successive halving over units, opened where a win is likely. It trusts that curves do not cross.

1. Opening: the lowest unit and the stage boundaries bracket the network.
2. Race: units just opened train a first rung of the budget; the upper 1/eta of them, the leader's
   own score at that rung among them, goes on to the next one (Jamieson and Talwalkar 2016).
3. Next: the unit of the highest expected improvement (`posterior`) is opened, until no unit is likely
   to be better than the leader by more than the tolerance, or the allowance is spent.
4. Finals: the best few train with more seeds, until the interval leaves one (`finalists`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from ttl_jax.errors import UserError
from ttl_jax.models import Unit
from ttl_jax.search.config import SearchOptions
from ttl_jax.search.finalists import DEFAULT, Terms, rivals
from ttl_jax.search.posterior import posterior
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

Asking = Generator[tuple[Request, ...], Mapping[Request, float], bool]


@dataclass
class _Book:
    """The scores known so far, and the cost of their trainings."""

    rungs: tuple[float, ...]
    sign: float
    allowance: float
    effort: Mapping[int, float] | None
    first_seed: int
    scores: dict[Request, float] = field(default_factory=dict)

    def spent(self) -> float:
        """The cost so far, trials that existed before included."""
        reached: dict[tuple[int, int], float] = {}
        for unit, budget, seed in self.scores:
            key = (unit, seed)
            reached[key] = max(budget, reached[key] if key in reached else 0.0)
        return math.fsum(share * self.effort_of(unit) for (unit, _), share in reached.items())

    def effort_of(self, unit: int) -> float:
        """The cost of a whole training of a unit."""
        return 1.0 if self.effort is None else self.effort[unit]

    def ask(self, requests: Sequence[Request]) -> Asking:
        """Asks for those requests that the allowance pays for; False if that is not all of them."""
        before, affordable, left = self.scores, [], self.allowance - self.spent()
        for request in requests:
            done = max(
                (known.budget for known in before if known[0::2] == request[0::2]), default=0.0
            )  # [0::2]: unit and seed
            cost = max(request.budget - done, 0.0) * self.effort_of(request.unit)
            if cost > left + 1e-9:
                break
            left -= cost
            affordable.append(request)
        if affordable:
            answers = yield tuple(affordable)
            self.scores |= {request: self.sign * score for request, score in answers.items()}
        return len(affordable) == len(requests)

    def at(self, rung: float) -> dict[int, float]:
        """Scores of the first seed at a rung."""
        return {r.unit: score for r, score in self.scores.items() if r[1:] == (rung, self.first_seed)}


def halving_plan(
    stages: Iterable[int | Unit],
    units: Iterable[int | Unit],
    terms: Terms = DEFAULT,
    *,
    rungs: Sequence[float] = (1.0,),
    eta: float = SearchOptions.eta,
    effort: Mapping[int, float] | None = None,
) -> Plan:
    """The plan behind `halving`, whose arguments these are; `terms.width` units are opened at a time."""
    candidates, seeds, allowance = indices(units), terms.seeds, terms.allowance
    boundaries = checked_stages(stages, candidates)
    _check(rungs, eta)
    terms.check()
    opening = tuple(sorted({candidates[0], *boundaries, candidates[-1]}))
    finals = (len(seeds) - 1) * terms.finalists * _dearest(effort, candidates)
    needed = _dearest_race(opening, rungs, eta, effort) + finals
    if allowance + 1e-9 < needed:
        raise UserError(
            f"an allowance of {allowance:g} trainings does not pay for the opening of {len(opening)} units "
            f"and the finals, which may cost {needed:g}; raise it, or use fewer stages, seeds or finalists"
        )
    book = _Book(tuple(rungs), terms.sign, allowance - finals, effort, seeds[0])
    rounds: list[int] = []
    opened, reason = opening, ""
    while not reason:
        paid = yield from _race(book, opened, eta)
        rounds.append(highest(book.at(rungs[-1])))
        tried = {request.unit for request in book.scores}
        unseen = [unit for unit in candidates if unit not in tried]
        belief = posterior(candidates, book.scores, terms.tolerance)
        next_step = rungs[0] * min((book.effort_of(unit) for unit in unseen), default=0.0)
        if not paid or (unseen and book.spent() + next_step > book.allowance + 1e-9):
            reason = f"the allowance of {allowance:g} trainings is spent"
        elif not unseen:
            reason = "every unit was tried"
        elif belief.sure(rounds[-1], terms.confidence):
            reason = "little more is to be gained, if curves do not cross"
        else:
            gains = belief.gains(rounds[-1])
            opened = tuple(sorted(unseen, key=lambda unit: -gains[unit])[: terms.width])
    book.allowance = allowance
    best, score, reason = yield from _finals(book, terms, reason)
    return Outcome(best, terms.sign * score, (*rounds, best) if len(seeds) > 1 else tuple(rounds), reason)


def _dearest(effort: Mapping[int, float] | None, units: Sequence[int]) -> float:
    return 1.0 if effort is None else max(effort[unit] for unit in units)


def _dearest_race(
    opened: Sequence[int], rungs: Sequence[float], eta: float, effort: Mapping[int, float] | None
) -> float:
    """The highest cost of a race: that of the units of the highest effort going on."""
    efforts = sorted((1.0 if effort is None else effort[unit] for unit in opened), reverse=True)
    total, before = 0.0, 0.0
    for rung in rungs:
        total += (rung - before) * math.fsum(efforts)
        efforts, before = efforts[: math.ceil(len(efforts) / eta)], rung
    return total


def _race(book: _Book, opened: Sequence[int], eta: float) -> Asking:
    """Trains the units just opened as far as they keep up; False when the allowance ran out."""
    alive, enough = list(opened), True
    whole = {unit: score for unit, score in book.at(book.rungs[-1]).items() if not math.isnan(score)}
    leader = highest(whole) if whole else None
    for rung in book.rungs:
        paid = yield from book.ask([Request(unit, rung, book.first_seed) for unit in alive])
        enough &= paid
        level = book.at(rung)
        group = [unit for unit in (*alive, leader) if unit in level and not math.isnan(level[unit])]
        kept = sorted(group, key=lambda unit: -level[unit])[: math.ceil(len(group) / eta)]
        alive = [unit for unit in kept if unit != leader]
        if not alive:
            break
    return enough


def _finals(
    book: _Book, terms: Terms, reason: str
) -> Generator[tuple[Request, ...], Mapping[Request, float], tuple[int, float, str]]:
    """More seeds for the best few; returns the winner, its mean, and why it is the winner."""
    whole, seeds = book.rungs[-1], terms.seeds
    first = {unit: score for unit, score in book.at(whole).items() if not math.isnan(score)}
    best = highest(book.at(whole))
    scores = {unit: [first[unit]] for unit in sorted(first, key=lambda unit: -first[unit])[: terms.finalists]}
    left = tuple(scores)
    for seed in seeds[1:]:
        if len(left) < 2:
            break
        asked = {unit: Request(unit, whole, seed) for unit in left}
        yield from book.ask(tuple(asked.values()))  # paid for: finals have their part of the allowance
        scores = {unit: [*scores[unit], book.scores[asked[unit]]] for unit in left}
        left = rivals(scores, terms.confidence)
        if not left:
            return best, first[best], f"{reason}; every final failed"
    means = {unit: fmean(scores[unit]) for unit in left}
    winner = highest(means)
    if len(seeds) > 1:
        others = [unit for unit in left if unit != winner]
        reason += (
            f"; over seeds unit {winner} is not told apart from {', '.join(map(str, others))}"
            if others
            else "; over seeds no other finalist is left"
        )
    return winner, means[winner], reason


def halving(
    objective: Callable[[Request], float],
    stages: Iterable[int | Unit],
    units: Iterable[int | Unit],
    terms: Terms = DEFAULT,
    *,
    rungs: Sequence[float] = (1.0,),
    eta: float = SearchOptions.eta,
    effort: Mapping[int, float] | None = None,
    done: Mapping[Request, float] | None = None,
) -> SearchResult:
    """Successive halving over units (see the module's head).

    Args:
        objective: request (unit, budget, seed) -> score, called once a request.
        stages: boundaries to open with.
        units: candidates.
        terms: the search's budget and end; the finals' part of the allowance is kept for them.
        rungs: shares of a whole training at which learning curves are compared, rising to 1.
        eta: at each rung the best 1/eta of the units go on.
        effort: cost of a whole training, by unit; 1 each when not given.
        done: trials that exist already; they are not run again.

    Raises:
        UserError: arguments out of range, an allowance that does not pay for the opening, or every
            training failed.
    """
    plan = halving_plan(stages, units, terms, rungs=rungs, eta=eta, effort=effort)
    return follow(plan, one_by_one(objective), done=done, effort=effort)


def _check(rungs: Sequence[float], eta: float) -> None:
    rising = all(low < high for low, high in zip(rungs, rungs[1:], strict=False))
    if not rungs or not rising or rungs[0] <= 0 or rungs[-1] != 1:
        raise UserError(f"rungs={tuple(rungs)} must rise from above 0 to 1, as (0.25, 0.5, 1.0)")
    if not eta > 1:
        raise UserError(f"eta={eta} must be above 1")
