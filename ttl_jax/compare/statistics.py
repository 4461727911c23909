"""Whether the differences between strategies can be believed, from the final cells' prediction files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax import evaluation
from ttl_jax.compare.folds import fold_share
from ttl_jax.evaluation import predictions

METRIC = "auroc"
Pairs = dict[tuple[int, "int | None"], tuple[evaluation.Predictions, evaluation.Predictions]]
RESAMPLES = 2000


def statistics(config: Any, workdir: Path, settings: list[dict[str, Any]]) -> dict[str, Any]:
    """What compare.json says under "statistics".

    "differences": each strategy less the reference on the same data set and model, patients and seeds
    resampled together ("over": "patients") or over folds ("folds"), p adjusted by Holm over all of them;
    "friedman": mean ranks over data sets and models with Nemenyi's critical difference; "bayes": chances
    of a practical difference.

    Args:
        settings: as `summary.summarise` makes them.
    """
    names = list(dict.fromkeys(each["strategy"] for each in settings))
    wanted = config.compare.reference
    reference = wanted if wanted in names else names[0]
    differences = _differences(workdir, settings, reference)
    adjusted = evaluation.holm([each["p"] for each in differences if each["p"] is not None])
    places = iter(adjusted.tolist())
    for each in differences:
        each["p_holm"] = None if each["p"] is None else next(places)
    table, columns = _blocks(settings, names)
    return {
        "metric": METRIC,
        "reference": reference,
        "differences": differences,
        "friedman": _friedman(table, columns),
        "bayes": _bayes(table, columns, reference, config.compare.rope),
        "rope": config.compare.rope,
        "resamples": RESAMPLES,
    }


def _differences(workdir: Path, settings: list[dict[str, Any]], reference: str) -> list[dict[str, Any]]:
    base = {(each["dataset"], each["model"]): each for each in settings if each["strategy"] == reference}
    found = []
    for each in settings:
        place = each["dataset"], each["model"]
        if each["strategy"] == reference or place not in base:
            continue
        pairs = _pairs(workdir, each["cells"], base[place]["cells"])
        if not pairs:
            continue
        difference, over = _difference(pairs, each["cells"], base[place]["cells"], each["folds"])
        if np.isfinite(difference.estimate):
            what = {key: each[key] for key in ("dataset", "model", "strategy")}
            found.append(what | asdict(difference) | {"over": over})
    return found


def _difference(
    pairs: Pairs, mine: list[dict[str, Any]], theirs: list[dict[str, Any]], folds: int
) -> tuple[evaluation.Difference, str]:
    """On one test set by resampling, "patients"; where every fold has a test set of its own, "folds"."""
    first = next(iter(pairs.values()))[0]
    if all(np.array_equal(one.ids, first.ids) for one, _ in pairs.values()):
        found = evaluation.paired_difference(
            first.labels,
            [one.logits for one, _ in pairs.values()],
            [other.logits for _, other in pairs.values()],
            first.groups,
            METRIC,
            task=first.task,
            resamples=RESAMPLES,
        )
        return found, "patients"
    values: dict[int, list[float]] = {}
    other = {_key(cell): cell for cell in theirs}
    for cell in mine:
        if _key(cell) in pairs:
            ours, its = cell["test"][METRIC], other[_key(cell)]["test"][METRIC]
            values.setdefault(cell["fold"], []).append(np.nan if None in (ours, its) else ours - its)
    groups = len(set().union(*(set(one.groups.tolist()) for one, _ in pairs.values())))
    means = [float(np.mean(fold)) for fold in values.values()]
    seeds = len({seed for seed, _ in pairs})
    return evaluation.fold_difference(means, fold_share(folds), groups=groups, seeds=seeds), "folds"


def _key(cell: dict[str, Any]) -> tuple[int, int | None]:
    return cell["seed"], cell["fold"]


def _pairs(workdir: Path, mine: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> Pairs:
    """Test predictions of the seeds (and folds) that both have, on the same examples."""
    other = {_key(cell): cell for cell in theirs}
    found: Pairs = {}
    for cell in mine:
        if _key(cell) in other:
            one, its = (
                predictions.load(workdir / each["folder"] / "predictions" / "test.npz")
                for each in (cell, other[_key(cell)])
            )
            if not np.array_equal(one.ids, its.ids):
                raise ValueError(f"{cell['folder']} was tested on other examples than the reference")
            found[_key(cell)] = one, its
    return found


def _blocks(settings: list[dict[str, Any]], names: list[str]) -> tuple[np.ndarray, list[str]]:
    """Mean test AUROCs, a row a data set and model; only strategies known on every one of them."""
    value = {
        (each["dataset"], each["model"], each["strategy"]): each["test"][METRIC]["mean"]
        for each in settings
        if each["test"][METRIC] is not None
    }
    blocks = list(dict.fromkeys((each["dataset"], each["model"]) for each in settings))
    columns = [name for name in names if all((*block, name) in value for block in blocks)]
    return np.array([[value[*block, name] for name in columns] for block in blocks]), columns


def _friedman(table: np.ndarray, columns: list[str]) -> dict[str, Any] | None:
    if len(columns) < 3 or len(table) < 2:
        return None
    found = evaluation.friedman_nemenyi(table)
    return {
        "strategies": columns,
        "ranks": found.ranks.tolist(),
        "statistic": found.statistic,
        "p": found.p,
        "critical_difference": found.critical_difference,
        "alpha": found.alpha,
        "blocks": found.blocks,
    }


def _bayes(table: np.ndarray, columns: list[str], reference: str, rope: float) -> list[dict[str, Any]]:
    """Against the reference; nothing with fewer than three data sets and models, where the prior rules."""
    if reference not in columns or len(table) < 3:
        return []
    base = table[:, columns.index(reference)]
    found = []
    for place, name in enumerate(columns):
        if name != reference:
            chances = evaluation.bayesian_signed_rank(table[:, place], base, rope)
            found.append({"strategy": name, "better": chances.a, "alike": chances.alike, "worse": chances.b})
    return found
