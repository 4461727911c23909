"""The page of a comparison, beside that of its runs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ttl_jax.evaluation.predictions import Predictions
from ttl_jax.report import captions, wording
from ttl_jax.report.comparison import comparison_figures
from ttl_jax.report.comparison import text as compared
from ttl_jax.report.comparison.comparison_figures import Difference
from ttl_jax.report.comparison.decisions import decision_tests, trusts
from ttl_jax.report.read import Run, look_up
from ttl_jax.report.svg import Drawn, as_file, as_image

MAX_PICTURE_BYTES = 600_000  # of plans of strategies
MAX_DIFFERENCES = 16  # in the picture beside the answer, so that both are seen at once


def variables(comparison: Mapping[str, Any], runs: Sequence[Run]) -> dict[str, Any]:
    """The variables of page_comparison.html.

    Args:
        comparison: the content of compare.json, pictures read (see `with_pictures`).
        runs: the runs of its final cells.
    """
    rows, statistics, protocol = compared.lines(comparison), comparison["statistics"], comparison["protocol"]
    drawn = []
    friedman = statistics["friedman"]
    if friedman is not None:
        about = (
            f"{captions.RANKS} Mean ranks over {friedman['blocks']} data sets and models, 1 is best "
            f"(Friedman p = {compared.p_value(friedman['p'])}; Nemenyi, 5%)."
        )
        few = " With so few data sets next to nothing can be told apart." if friedman["blocks"] < 5 else ""
        drawn.append(Drawn(comparison_figures.critical_difference(friedman), about + few))
    by_parts = {run.path.resolve().parts: run for run in runs}

    def held(folder: str, split: str) -> Predictions | None:
        parts = Path(folder).parts
        known = [run for path, run in by_parts.items() if path[-len(parts) :] == parts]
        return known[0].predictions(split) if known else None

    trusted = trusts(comparison, held)
    several = len({row.model for row in rows}) > 1
    pictures = [
        Drawn(
            as_image(each["svg"], f"Plan of {each['strategy']} on {each['model']}"),
            f"{each['strategy']}, {each['model']}" if several else each["strategy"],
        )
        for each in (comparison["pictures"] if "pictures" in comparison else ())
    ]
    sizes = itertools.accumulate(len(drawn.svg) for drawn in pictures)
    fitting = sum(size <= MAX_PICTURE_BYTES for size in sizes)
    return {
        "lead": _lead(comparison, rows),
        "lines": rows,
        "reference": statistics["reference"],
        "preferred": compared.preferred(comparison),
        "titles": [each.title for each in compared.metrics_of(comparison)],
        "several_datasets": len({row.dataset for row in rows}) > 1,
        "several_models": len({row.model for row in rows}) > 1,
        "interval_over": interval_over(comparison),
        "difference_over": difference_over(comparison),
        "in_folds": protocol["folds"] > 0,
        "replication": protocol["replication"],
        "tuned_on": protocol["tuned_on"],
        "metric": wording.title(statistics["metric"]),
        "needing": compared.needing(comparison),
        "pooled": compared.pooled(comparison),
        "moderated": look_up(statistics, "moderated") or False,
        "older": "resamples" in statistics,
        "bayes": statistics["bayes"],
        "rope": statistics["rope"],
        "figures": drawn,
        "paretos": _paretos(rows),
        "varying_length": compared.varying_length(rows),
        "timed_on": _timed_on(comparison),
        "budget": look_up(protocol, "budget"),
        "decisions": decision_tests(comparison, held),
        "trusts": trusted,
        "operating": any(each.sensitivity is not None for each in trusted),
        "pictures": pictures[:fitting],
        "pictures_left_out": pictures[fitting:],
    }


def figure_files(comparison: Mapping[str, Any]) -> dict[str, str]:
    """The figures of a comparison as SVG files: name -> content.

    `differences` of all data sets together and of each, `critical_difference`, and the metric against each
    cost on each data set; one that has nothing to show is left out.
    """
    rows, statistics = compared.lines(comparison), comparison["statistics"]
    metric, reference = wording.title(statistics["metric"]), statistics["reference"]
    each_set = list(dict.fromkeys(row.dataset for row in rows))
    drawn: dict[str, str | None] = {
        "differences": comparison_figures.differences(_pooled(comparison), reference, metric)
    }
    for name in each_set:
        here = _differences([row for row in rows if row.dataset == name])
        drawn[f"differences_{name}"] = comparison_figures.differences(here, reference, f"{name}: {metric}")
    if statistics["friedman"] is not None:
        drawn["critical_difference"] = comparison_figures.critical_difference(statistics["friedman"])
    for cost in comparison_figures.costs_to_choose(rows):
        drawn |= {f"{cost}_{name}": comparison_figures.pareto(rows, name, cost) for name in each_set}
    return {name: as_file(svg) for name, svg in drawn.items() if svg is not None}


def _pooled(comparison: Mapping[str, Any]) -> list[Difference]:
    return [
        Difference(each["strategy"], each["estimate"], each["low"], each["high"], each["p_holm"])
        for each in compared.pooled(comparison)
    ]


def _differences(rows: Sequence[compared.Line]) -> list[Difference]:
    """Those that are known; named with their data set and network where there are several of either."""
    sets, models = {row.dataset for row in rows}, {row.model for row in rows}
    return [
        Difference(
            ", ".join([row.strategy] + [row.dataset] * (len(sets) > 1) + [row.model] * (len(models) > 1)),
            row.difference,
            row.d_low,
            row.d_high,
            row.p,
        )
        for row in rows
        if row.difference is not None
    ]


def _lead(comparison: Mapping[str, Any], rows: Sequence[compared.Line]) -> Drawn | None:
    """The picture beside the answer: what each strategy gains, over the data sets where that is known."""
    statistics = comparison["statistics"]
    pooled = _pooled(comparison)
    one_network = len({row.model for row in rows}) == 1
    shown = pooled if pooled and one_network else _differences(rows)
    by_size = sorted(shown, key=lambda each: -abs(each.estimate))[:MAX_DIFFERENCES]
    picked = [each for each in shown if each in by_size]
    svg = comparison_figures.differences(picked, statistics["reference"], wording.title(statistics["metric"]))
    about = captions.DIFFERENCES.format(reference=statistics["reference"])
    about += f" The {len(picked)} largest of {len(shown)}." if len(picked) < len(shown) else ""
    about += " Over all data sets together." if shown is pooled else ""
    return None if svg is None else Drawn(svg, about)


def difference_over(comparison: Mapping[str, Any]) -> set[str]:
    """The replicates of the differences' intervals: "patients", "folds", or both, on different data sets."""
    folds = comparison["protocol"]["folds"]  # an older compare.json does not say it of each difference
    default = "folds" if folds else "patients"
    return {look_up(each, "over") or default for each in comparison["statistics"]["differences"]}


def interval_over(comparison: Mapping[str, Any]) -> str:
    """Return, in words, the replicates of the settings' own intervals."""
    replicate = "folds" if comparison["protocol"]["folds"] else "seeds"
    metrics = compared.metrics_of(comparison)
    named = next((each.name for each in metrics if each.terms is not None), "auroc")
    alone = ", ".join(each.title for each in metrics if each.terms is None)
    over = {  # an older compare.json does not say it, and has Student's
        look_up(each, "test", named, "over") or replicate for each in comparison["settings"] if each["cells"]
    }
    said = {
        "folds": "Student's over folds",
        "seeds": "Student's over seeds",
        "patients": f"over patients and {replicate}" + f" ({alone}: over {replicate} alone)" * bool(alone),
    }
    return ", or, on other data sets, ".join(said[each] for each in said if each in over)


def _paretos(rows: Sequence[compared.Line]) -> list[tuple[str, str, list[str]]]:
    """(field, what it is called, a figure a data set) of every cost that is known."""
    figures_by_cost = []
    for cost in comparison_figures.costs_to_choose(rows):
        svgs = (
            comparison_figures.pareto(rows, name, cost) for name in dict.fromkeys(r.dataset for r in rows)
        )
        drawn = [svg for svg in svgs if svg is not None]
        if drawn:
            figures_by_cost.append((cost, comparison_figures.COSTS[cost][0], drawn))
    return figures_by_cost


def _timed_on(comparison: Mapping[str, Any]) -> str:
    """The device on which a forward pass was timed; "" where none was."""
    devices = {look_up(each, "inference", "device") for each in comparison["settings"]}
    return " and ".join(sorted(device for device in devices if device))
