"""Bayesian optimisation over units: a short look at all, then whole trainings where they promise most.

1. Pilot: every unit trains a small share of the run. Nobody is left out for it: a slow learner may end best.
2. The unit of the highest expected improvement at the end (`posterior`) trains to its end, until no unit
   is likely to be better than the leader by more than the tolerance, or the allowance is spent.
3. With several seeds, the best few train with each of them.

The winner is the whole training of the highest expected score, which its neighbours' scores have a say in:
the highest score itself is often luck.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from ttl_jax.errors import UserError
from ttl_jax.models import Unit
from ttl_jax.search.config import SearchOptions
from ttl_jax.search.finalists import DEFAULT, Terms
from ttl_jax.search.posterior import Posterior, posterior
from ttl_jax.search.protocol import Outcome, Plan, Request, highest, indices

WHOLE = 3  # trainings to the end that are made at least: fewer cannot tell a peak from a slope


def bayesian_plan(
    units: Iterable[int | Unit], terms: Terms = DEFAULT, *, pilot: float = SearchOptions.pilot
) -> Plan:
    """Plan of a Bayesian search (see the module's head).

    Args:
        units: candidates, as 1-based indices or as `models.units` gives them.
        terms: budget and end of the search. Three whole trainings are made at least, whatever the allowance;
            the finalists' further seeds come on top of it.
        pilot: share of a training that every unit gets first, above 0; at 1 all train to the end.

    Raises:
        UserError: arguments out of range, or every training failed.
    """
    _check(pilot, terms)
    candidates, sign, seeds, allowance = indices(units), terms.sign, terms.seeds, terms.allowance
    affordable = (allowance - pilot * len(candidates) + 1e-9) / (1 - pilot) if pilot < 1 else 0.0
    whole = max(WHOLE, math.floor(min(affordable, len(candidates))))
    scores: dict[Request, float] = {}

    def take(answers: Mapping[Request, float]) -> None:
        scores.update({request: sign * score for request, score in answers.items()})

    def at(budget: float) -> dict[int, float]:
        """Scores of the first seed."""
        return {r.unit: score for r, score in scores.items() if r[1:] == (budget, seeds[0])}

    take((yield tuple(Request(unit, pilot, seeds[0]) for unit in candidates)))
    highest(at(pilot))  # refuses a search all of whose trainings failed
    rounds: list[int] = []
    reason = ""
    while not reason:
        belief, ended = posterior(candidates, scores, terms.tolerance), at(1.0)
        left = [unit for unit, score in at(pilot).items() if unit not in ended and not math.isnan(score)]
        known = {unit: belief.mean()[unit] for unit, score in ended.items() if not math.isnan(score)}
        if known or not left:
            rounds.append(highest(known or ended))
        if not left:
            reason = "every unit was tried"
        elif known and len(ended) >= whole:
            reason = f"the allowance of {allowance:g} trainings is spent"
        elif known and belief.sure(rounds[-1], terms.confidence):
            reason = f"no unit is likely to be better by more than {terms.tolerance:g}"
        else:
            count = max(1, min(terms.width, len(left), whole - len(ended)))
            take((yield _promising(belief, scores, left, known, count, seeds[0])))
    best = rounds[-1]
    if len(seeds) > 1:
        last = sorted(known, key=lambda unit: -known[unit])[: terms.finalists]
        take((yield tuple(Request(unit, 1.0, seed) for seed in seeds[1:] for unit in last)))
        means = posterior(candidates, scores, terms.tolerance).mean()
        best = max(last, key=lambda unit: means[unit])
        reason += f"; unit {best} has the highest expected score after {len(seeds)} seeds"
        rounds.append(best)
    seen = [scores[r] for r in scores if (r.unit, r.budget) == (best, 1.0) and not math.isnan(scores[r])]
    return Outcome(best, sign * fmean(seen), tuple(rounds), reason)


def _promising(
    belief: Posterior,
    scores: Mapping[Request, float],
    left: Sequence[int],
    known: Mapping[int, float],
    count: int,
    seed: int,
) -> tuple[Request, ...]:
    """The trainings to be made next: those of the highest expected improvement.

    Of several, each is chosen as if the ones before had scored what is expected of them (Ginsbourger et
    al. 2010, "kriging believer"): else all would be neighbours.
    """
    assumed, opened, believed = dict(scores), list[Request](), dict(known)
    for _ in range(count):
        means = belief.mean()
        gains = belief.gains(highest(believed)) if believed else means
        unit = max((unit for unit in left if unit not in believed), key=lambda unit: gains[unit])
        opened.append(Request(unit, 1.0, seed))
        if len(opened) < count:
            believed[unit] = assumed[opened[-1]] = means[unit]
            belief = posterior(belief.units, assumed, belief.tolerance)
    return tuple(opened)


def _check(pilot: float, terms: Terms) -> None:
    if not 0 < pilot <= 1:
        raise UserError(f"pilot={pilot:g} is a share, above 0 up to 1")
    terms.check()
    if not terms.tolerance > 0:
        raise UserError(f"tolerance={terms.tolerance:g} must be above 0")
