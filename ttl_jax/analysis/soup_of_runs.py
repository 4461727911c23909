"""Soups of several finished runs: one model whose weights are the mean of theirs (Wortsman et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ttl_jax import data, evaluation, strategies
from ttl_jax.config.data import data_config
from ttl_jax.errors import UserError, nearest
from ttl_jax.evaluation.registry import Merit, merit
from ttl_jax.strategies import flatten
from ttl_jax.strategies.anatomy import variables_of
from ttl_jax.strategies.parts.soup import SOUPS, greedy_soup, uniform_soup
from ttl_jax.system.json_object import read_object
from ttl_jax.system.whole_file import write_json
from ttl_jax.training.build import Loaded, load_run
from ttl_jax.training.frozen.inputs import Inputs
from ttl_jax.training.frozen.phase_data import PhaseData
from ttl_jax.training.predictor import logits_of, make_predict
from ttl_jax.training.programs import Session
from ttl_jax.training.records import provenance
from ttl_jax.training.records.checkpoints import Checkpoints
from ttl_jax.training.result import evaluate_once
from ttl_jax.typing import Variables

# What must be equal for weights to be comparable, and for validation to be the same.
SHARED = ("model", "data", "select")
FREE = (
    "model.bn_momentum", "model.bn_estimate",
    "data.batch_size", "data.augment", "data.mix", "data.views", "data.loader_threads", "data.cache_gb",
)  # fmt: skip


def soup(runs: Sequence[Path], workdir: Path, kind: str = "greedy") -> dict[str, Any]:
    """Average finished runs, chosen on validation alone, and score the mean like a run.

    Args:
        runs: Folders of finished runs of one network on one data set. Seeds, learning rates and strategies
            may differ as long as the resulting networks have the same shape.
        workdir: Folder to write. It receives checkpoints/best, predictions, result.json and config.json, as
            for a run.
        kind: "greedy" (keep a run only if the validation score does not drop) or "uniform" (average all).

    Returns:
        The content of result.json.

    Raises:
        UserError: fewer than two runs, runs that cannot be averaged, and why, or other data than theirs.
    """
    if kind not in SOUPS:
        raise UserError(f"--kind={kind!r}{nearest(kind, SOUPS)}")
    if len(runs) < 2:
        raise UserError(
            "a soup needs at least two finished runs, as in: soup runs/a runs/b --workdir=runs/soup"
        )
    loaded = [load_run(run) for run in runs]
    _refuse_unlike(runs, loaded)
    first = loaded[0]
    every = data.load(data_config(first.config.data))
    for run, one in zip(runs, loaded, strict=True):
        provenance.check_made_from(run, one.config, every, first=False)
    sets = {name: split for name, split in every.items() if name != "train"}
    estimated = _estimator(loaded, every, workdir)
    predict = make_predict(first.network, first.preprocessing.normalise)

    def logits(split: data.Dataset, variables: Variables) -> Any:
        size = min(first.config.data.eval_batch_size, len(split.ids))
        return logits_of(predict, variables, data.eval_batches(split, size))

    def score(leaves: Mapping[str, Any]) -> Merit:
        split = sets["val"]
        shown = estimated(variables_of(leaves))
        scores = evaluation.score(split.labels, logits(split, shown), split.class_names, split.task)
        return merit(scores, first.config.select)

    ingredients = [flatten(run.best) for run in loaded]
    scores = [score(item) for item in ingredients]
    if kind == "uniform":
        mean, kept = uniform_soup(ingredients), list(range(len(runs)))
    else:
        mean, kept, _ = greedy_soup(ingredients, scores, score)
    provenance.claim(workdir, first.config)
    checkpoints, whole = Checkpoints(workdir), estimated(variables_of(mean))
    checkpoints.save_best(1, whole)
    checkpoints.close()
    result = read_object(runs[0] / "result.json")  # what the runs share
    result.pop("after", None)  # the first run's own average
    result |= evaluate_once(workdir, sets, lambda split: logits(split, whole))
    result |= {
        "strategy": f"{kind} soup of {len(kept)} from {len(runs)} runs",
        "seconds": round(sum(read_object(run / "result.json")["seconds"] for run in runs), 2),
        "soup": {
            "kind": kind,
            "kept": [str(runs[number]) for number in kept],
            "runs": {str(run): value.figure for run, value in zip(runs, scores, strict=True)},
            "select": first.config.select,
        },
        "params": int(
            sum(math.prod(leaf.shape) for path, leaf in mean.items() if path.startswith("params/"))
        ),
    }
    write_json(workdir / "result.json", result)
    return result


def _estimator(
    loaded: Sequence[Loaded], sets: Mapping[str, data.Dataset], workdir: Path
) -> Callable[[Variables], Variables]:
    """Return the function that gives averaged weights BatchNorm statistics, by the first run's config.

    With "precise(n)" they are re-estimated from its training batches, except for units whose statistics were
    fixed at the end of every run.
    """
    first = loaded[0]
    lasts = []
    for run in loaded:
        strategy = strategies.parse(run.config.strategy)
        lasts.append(strategies.bind(strategy, run.best["params"], run.config.model.name)[-1])
    inputs = Inputs(first.config, first.network, first.preprocessing, sets, workdir, Session())
    still = tuple(sorted(set(lasts[0].still).intersection(*(bound.still for bound in lasts[1:]))))
    return PhaseData(inputs, replace(lasts[0], still=still), sets).estimated


def _refuse_unlike(runs: Sequence[Path], loaded: Sequence[Loaded]) -> None:
    """Raise UserError if a run differs from the first one; name the first field or shape that does."""
    first = loaded[0]
    shapes = {path: leaf.shape for path, leaf in strategies.flatten(first.best).items()}
    for run, other in zip(runs[1:], loaded[1:], strict=True):
        for part in SHARED:
            mine, theirs = (_dotted(item.config.to_dict()[part], part) for item in (first, other))
            for key, value in mine.items():
                if key not in FREE and theirs[key] != value:
                    raise UserError(
                        f"{run} cannot be averaged with {runs[0]}: {key} is {theirs[key]!r} there, "
                        f"{value!r} here"
                    )
        if {path: leaf.shape for path, leaf in strategies.flatten(other.best).items()} != shapes:
            raise UserError(f"{run} cannot be averaged with {runs[0]}: the networks differ in shape")


def _dotted(value: Any, name: str) -> dict[str, Any]:
    return (
        {f"{name}.{key}": item for key, item in value.items()} if hasattr(value, "items") else {name: value}
    )
