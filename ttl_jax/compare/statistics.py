"""Tests of the differences between strategies, from the final cells' prediction files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax import evaluation, strategies
from ttl_jax.compare import budget
from ttl_jax.compare.config import CompareConfig
from ttl_jax.compare.fold_counts import fold_share
from ttl_jax.evaluation import Components, Difference, predictions, registry

Pairs = dict[tuple[int, "int | None"], tuple[evaluation.Predictions, evaluation.Predictions]]
LEVEL = 0.05  # two-sided, of a claim


@dataclass(frozen=True)
class Match:
    """A strategy's cells and the reference's on the same data set and model, and the runs that both have."""

    place: dict[str, Any]
    pairs: Pairs
    mine: list[dict[str, Any]]
    theirs: list[dict[str, Any]]
    folds: int

    @property
    def exclusive(self) -> bool:
        """Every example has one class, and so one decision."""
        return all(one.task == "multiclass" for one, _ in self.pairs.values())


def statistics(config: CompareConfig, workdir: Path, settings: list[dict[str, Any]]) -> dict[str, Any]:
    """The "statistics" of compare.json.

    "metric": `config.select`, and whether "higher_is_better". "differences": each strategy less the
    reference on the same data set and model, see `inferences`; "over" patients and seeds ("patients") or
    folds ("folds"). "decisions": the same of accuracy, a family of its own. "pooled": see `pool`. "friedman":
    mean ranks over data sets and models with Nemenyi's critical difference; "bayes": chances of a practical
    difference.

    Args:
        settings: the "settings" of compare.json, see `summary.summarise`.
    """
    section, selected = config.compare, registry.metric(config.select)
    names = list(dict.fromkeys(each["strategy"] for each in settings))
    wanted = strategies.title(budget.reference(config))
    reference = wanted if wanted in names else names[0]
    matches = _matches(workdir, settings, reference)

    def family(matches: Sequence[Match], metric: str) -> list[dict[str, Any]]:
        compared = [(each, *_difference(each, metric)) for each in matches]
        compared = [each for each in compared if np.isfinite(each[1].estimate)]
        tested = inferences([difference for _, difference, _ in compared], section.moderate, section.gain)
        return [
            match.place | about | {"over": over}
            for (match, _, over), about in zip(compared, tested, strict=True)
        ]

    differences = family(matches, selected.name)
    table, columns = _blocks(settings, names, selected.name)
    table = selected.sign * table
    return {
        "metric": selected.name,
        "higher_is_better": selected.higher_is_better,
        "reference": reference,
        "differences": differences,
        "decisions": family([each for each in matches if each.exclusive], "accuracy"),
        "pooled": pool(differences),
        "gain": section.gain,
        "moderated": section.moderate,
        "friedman": _friedman(table, columns),
        "bayes": _bayes(table, columns, reference, section.rope),
        "rope": section.rope,
    }


def inferences(
    comparisons: Sequence[Components | Difference], moderate: bool = False, gain: float | None = None
) -> list[dict[str, Any]]:
    """A family of comparisons, each with its interval, its p-value after Holm, and what would settle it.

    Nothing is claimed where `Difference.caveat` says why not: "p_holm" is None, and the family is as large as
    with it. "needed_seeds" and "needed_patients" of every comparison that is open: see `evaluation.needed`,
    at the level of Holm's first step. "variance_moderated": see `pool`.

    Args:
        comparisons: components over patients and seeds, or differences over folds, tested already.
        moderate: let seed variances borrow strength from each other.
        gain: true difference to be found; None: not asked.
    """
    components = [each for each in comparisons if isinstance(each, Components)]
    borrowed = evaluation.moderated(components)
    used, weighed = iter(borrowed if moderate else components), iter(borrowed)
    inside = [next(used) if isinstance(each, Components) else each for each in comparisons]
    weights = [(next(weighed) if isinstance(each, Components) else each).variance for each in comparisons]
    differences = [
        evaluation.difference_of(each) if isinstance(each, Components) else each for each in inside
    ]
    adjusted = evaluation.holm([1.0 if each.caveat or each.p is None else each.p for each in differences])
    made = []
    for difference, each, p, weight in zip(differences, inside, adjusted.tolist(), weights, strict=True):
        p_holm, needs = None if difference.caveat else p, evaluation.Needed(None, None)
        if gain and isinstance(each, Components) and (p_holm is None or p_holm >= LEVEL):
            needs = evaluation.needed(each, gain, LEVEL / len(comparisons))
        about = {"p_holm": p_holm, "needed_seeds": needs.seeds, "needed_patients": needs.patients}
        known = difference.variance is not None and weight is not None
        made.append(asdict(difference) | about | {"variance_moderated": weight if known else None})
    return made


def pool(differences: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of every strategy and model the difference over data sets, p adjusted by Holm over these.

    Data sets on which no variance could be estimated are left out; with fewer than three there is no entry.
    The weights take moderated seed variances: by its own of three seeds a data set may weigh most by chance,
    and 11 % of null hypotheses are rejected instead of 5.
    """
    made = []
    for model, strategy in dict.fromkeys((each["model"], each["strategy"]) for each in differences):
        known = [each for each in differences if (each["model"], each["strategy"]) == (model, strategy)]
        known = [each for each in known if each["variance_moderated"]]
        pooled = evaluation.pooled_difference(
            [each["estimate"] for each in known], [each["variance_moderated"] for each in known]
        )
        if pooled is not None:
            made.append({"model": model, "strategy": strategy} | asdict(pooled))
    adjusted = evaluation.holm([each["p"] for each in made])
    return [each | {"p_holm": p} for each, p in zip(made, adjusted.tolist(), strict=True)]


def _matches(workdir: Path, settings: list[dict[str, Any]], reference: str) -> list[Match]:
    base = {(each["dataset"], each["model"]): each for each in settings if each["strategy"] == reference}
    matches = []
    for each in settings:
        place = each["dataset"], each["model"]
        if each["strategy"] != reference and place in base:
            pairs = _pairs(workdir, each["cells"], base[place]["cells"])
            what = {key: each[key] for key in ("dataset", "model", "strategy")}
            if pairs:
                matches.append(Match(what, pairs, each["cells"], base[place]["cells"], each["folds"]))
    return matches


def _difference(match: Match, metric: str) -> tuple[Components | Difference, str]:
    """On one test set over "patients" and seeds; where every fold has a test set of its own, over "folds"."""
    pairs = match.pairs
    first = next(iter(pairs.values()))[0]
    if all(np.array_equal(one.ids, first.ids) for one, _ in pairs.values()):
        components = evaluation.paired_components(
            first.labels,
            [one.logits for one, _ in pairs.values()],
            [other.logits for _, other in pairs.values()],
            first.groups,
            metric,
            first.task,
        )
        return components, "patients"
    values: dict[int, list[float]] = {}
    other = {_key(cell): cell for cell in match.theirs}
    for cell in match.mine:
        if _key(cell) in pairs:
            ours, its = (each["test"].get(metric) for each in (cell, other[_key(cell)]))
            values.setdefault(cell["fold"], []).append(np.nan if None in (ours, its) else ours - its)
    groups = len(set().union(*(set(one.groups.tolist()) for one, _ in pairs.values())))
    means = [float(np.mean(fold)) for fold in values.values()]
    seeds = len({seed for seed, _ in pairs})
    share = fold_share(match.folds)
    return evaluation.fold_difference(means, share, groups=groups, seeds=seeds), "folds"


def _key(cell: dict[str, Any]) -> tuple[int, int | None]:
    return cell["seed"], cell["fold"]


def _pairs(workdir: Path, mine: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> Pairs:
    """Test predictions of the seeds (and folds) that both have, on the same examples."""
    other = {_key(cell): cell for cell in theirs}
    pairs: Pairs = {}
    for cell in mine:
        if _key(cell) in other:
            one, its = (
                predictions.load(workdir / each["folder"] / "predictions" / "test.npz")
                for each in (cell, other[_key(cell)])
            )
            if not np.array_equal(one.ids, its.ids):
                raise ValueError(f"{cell['folder']} was tested on other examples than the reference")
            pairs[_key(cell)] = one, its
    return pairs


def _blocks(settings: list[dict[str, Any]], names: list[str], metric: str) -> tuple[np.ndarray, list[str]]:
    """Mean test figures, a row a data set and model; only strategies known on every one of them."""
    value: dict[tuple[str, str, str], float] = {}
    for each in settings:
        known = [cell["test"].get(metric) for cell in each["cells"]]
        known = [figure for figure in known if figure is not None]
        if known:
            value[each["dataset"], each["model"], each["strategy"]] = float(np.mean(known))
    blocks = list(dict.fromkeys((each["dataset"], each["model"]) for each in settings))
    columns = [name for name in names if all((*block, name) in value for block in blocks)]
    return np.array([[value[*block, name] for name in columns] for block in blocks]), columns


def _friedman(table: np.ndarray, columns: list[str]) -> dict[str, Any] | None:
    if len(columns) < 3 or len(table) < 2:
        return None
    test = evaluation.friedman_nemenyi(table)
    return {
        "strategies": columns,
        "ranks": test.ranks.tolist(),
        "statistic": test.statistic,
        "p": test.p,
        "critical_difference": test.critical_difference,
        "alpha": test.alpha,
        "blocks": test.blocks,
    }


def _bayes(table: np.ndarray, columns: list[str], reference: str, rope: float) -> list[dict[str, Any]]:
    """Against the reference; nothing with fewer than three data sets and models, where the prior rules."""
    if reference not in columns or len(table) < 3:
        return []
    base = table[:, columns.index(reference)]
    posteriors = []
    for place, name in enumerate(columns):
        if name != reference:
            chances = evaluation.bayesian_signed_rank(table[:, place], base, rope)
            posteriors.append(
                {"strategy": name, "better": chances.a, "alike": chances.alike, "worse": chances.b}
            )
    return posteriors
