"""The end of a run: what a strategy's `after` makes of its weights, chosen on validation alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ttl_jax.evaluation.selection import Merit
from ttl_jax.strategies import LabelledPhase, flatten, unflatten
from ttl_jax.strategies.average import (
    After,
    Soup,
    WiseFT,
    best_alpha,
    greedy_soup,
    interpolate,
    uniform_soup,
)
from ttl_jax.training.records.checkpoint import Checkpoints
from ttl_jax.typing import Variables

Score = Callable[[Variables], Merit]
Leaves = dict[str, Any]


def finish(
    after: After | None,
    bound: LabelledPhase,
    phases: int,
    variables: Variables,
    best: Variables,
    checkpoints: Checkpoints,
    score: Score,
) -> tuple[Variables, dict[str, Any]]:
    """Averages weights as the strategy says; the best ones unchanged where it says nothing.

    Args:
        after: the strategy's.
        bound: its last phase.
        phases: how many phases there were.
        variables: the weights that the run started from.
        best: those of the best validation.
        checkpoints: hold the start of the last phase and the soup's ingredients.
        score: weights -> their merit on validation.

    Returns:
        (weights, what was done for result.json).
    """
    match after:
        case Soup(kind=kind, last=last):
            ingredients = [_leaves(item) for item in checkpoints.restore_ingredients(best, last)]

            def score_leaves(leaves: Mapping[str, Any]) -> Merit:
                return score(_variables(leaves))

            if kind == "uniform":
                soup = uniform_soup(ingredients)
                return _variables(soup), {
                    "soup": kind, "kept": len(ingredients), "val": score_leaves(soup).figure,
                }  # fmt: skip
            scores = [score_leaves(item) for item in ingredients]
            soup, kept, found = greedy_soup(ingredients, scores, score_leaves)
            return _variables(soup), {
                "soup": kind, "kept": len(kept), "of": len(ingredients), "val": found.figure,
            }  # fmt: skip
        case WiseFT(alpha=alpha):
            kept_start = checkpoints.restore_start(best)
            start, end = _leaves(kept_start or variables), _leaves(best)
            if phases == 1:  # the head at the start is untrained
                heads = {path for path in end if path.startswith(("params/head/", "params/source_head/"))}
                start = {**start, **{path: end[path] for path in heads}}

            def between(alpha: float) -> Variables:
                return _variables(interpolate(start, end, alpha))

            if alpha is None:
                alpha, found = best_alpha(lambda alpha: score(between(alpha)))
            else:
                found = score(between(alpha))
            return between(alpha), {"wise_ft": alpha, "val": found.figure}
    return best, {}


def _leaves(variables: Variables) -> Leaves:
    return flatten(variables)


def _variables(leaves: Mapping[str, Any]) -> Variables:
    tree = unflatten(leaves)
    return {"params": tree["params"], "batch_stats": tree.get("batch_stats", {})}
