"""The one-file HTML report: text, numbers and inline SVG; nothing is fetched."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ttl_jax.evaluation import registry
from ttl_jax.report import captions, curves, figures, search_page, wording
from ttl_jax.report.comparison import comparison_page
from ttl_jax.report.comparison import text as compared
from ttl_jax.report.read import Run, flat, look_up, read_runs
from ttl_jax.report.rows import (
    COSTS,
    Row,
    metrics_of,
    rows_of,
    settings_that_differ,
    validation_score,
)
from ttl_jax.report.setting_section import Cell, setting_section, spread
from ttl_jax.report.svg import Drawn
from ttl_jax.report.template import fill, write_page

# What keeps the page below 5 MB; what does not fit is named in the page.
MAX_DETAILED = 24  # settings that get figures of their own
MAX_FIGURE_BYTES = 2_200_000  # of their figures
MAX_IMAGE_BYTES = 700_000  # of galleries
_SPLITS = {"test": "Test", "shifted": "Shifted test", "val": "Validation"}


def write(
    run_dirs: Sequence[str | Path],
    path: str | Path,
    title: str,
    comparison: Mapping[str, Any] | None = None,
    search: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a report of one or several runs as one HTML file that needs no network.

    Only result files are read (config.json, metrics.jsonl, result.json, predictions/*.npz), so a
    report can be made anew at any time, and of runs that are still going. Runs that differ only
    in the seed share a row. The file appears whole or not at all.

    Args:
        run_dirs: run directories.
        path: the HTML file.
        title: heading of the report.
        comparison: content of compare.json, for the comparison's own headline, table and figures.
        search: content of search.json, likewise; the run directories are those of its winner.

    Raises:
        UserError: no run directory, or a file in one that cannot be read.
    """
    return write_page(path, render(read_runs(run_dirs), title, comparison=comparison, search=search))


def render(
    runs: Sequence[Run],
    title: str,
    *,
    comparison: Mapping[str, Any] | None = None,
    search: Mapping[str, Any] | None = None,
) -> str:
    """The report's HTML; `write` without the file."""
    splits = [split for split in _SPLITS if any(run.scores(split) for run in runs)]
    if "test" in splits:
        splits = [split for split in splits if split != "val"]
    tables = {split: rows_of(runs, split) for split in splits or ["test"]}
    main = tables[next(iter(tables))]
    special: dict[str, Any] | None = None  # what the page of a comparison or a search has of its own
    headlines = _headlines(main)
    if comparison is not None:
        special, headlines = comparison_page.variables(comparison, runs), compared.headlines(comparison)
    elif search is not None:
        special, headlines = search_page.variables(search), search_page.headlines(search)
    differing = settings_that_differ(runs)
    names = _run_names(runs)
    details = _details(main)
    _leave_galleries_out(details)
    return fill(
        "page.html",
        title=title,
        today=datetime.date.today().isoformat(),
        runs=runs,
        headlines=headlines,
        compared=None if comparison is None else special,
        lead=_lead(main) if special is None else special["lead"],
        searched=None if search is None else special,
        cards=_cards(runs),
        wording=wording,
        metrics=[each for each in registry.metrics() if each.in_report],
        spread=spread,
        points=compared.points,
        p_value=compared.p_value,
        tables=[
            {"title": _SPLITS[split], "split": split, "rows": lines, **_table(lines)}
            for split, lines in tables.items()
        ],
        overviews=_overviews(main, comparison is None) if len(main) > 1 else [],
        details=details,
        patients=any(each["gallery"] and not each["gallery"].generated for each in details),
        left_out=[row for row in main if row not in [each["row"] for each in details]],
        differing=differing,
        shared={key: value for key, value in flat(runs[0].config).items() if key not in differing},
        warned=_warned(runs, names),
        settings=[(name, run, flat(run.config)) for name, run in zip(names, runs, strict=True)],
        origins=_origins(runs, names),
        chosen=any(row.chosen for row in main),
    )


def _cards(runs: Sequence[Run]) -> list[tuple[str, dict[str, Any]]]:
    """Each data set's card, from the first run that recorded it."""
    cards: dict[str, dict[str, Any]] = {}
    for run in runs:
        card = look_up(run.result, "data")
        if card is not None and run.dataset not in cards:
            first = next(iter(card["splits"].values()))
            cards[run.dataset] = {**card, "labels": list(first["classes"])}
    return list(cards.items())


def _run_names(runs: Sequence[Run]) -> list[str]:
    """The folder of each run, from where they part: cells of a comparison end alike."""
    if len(runs) == 1:
        return [runs[0].path.name]
    paths = [run.path.resolve() for run in runs]
    above = os.path.commonpath(paths)
    return [path.name if str(path) == above else os.path.relpath(path, above) for path in paths]


def _warned(runs: Sequence[Run], names: Sequence[str]) -> list[tuple[Mapping[str, str], list[str]]]:
    """The runs' warnings, first found first, each kind with its first message and the runs that have it."""
    kinds: dict[str, tuple[Mapping[str, str], list[str]]] = {}
    for run, name in zip(runs, names, strict=True):
        for each in run.warnings:
            kind = each["message"] if len(runs) == 1 else each["code"]
            where = kinds.setdefault(kind, (each, []))[1]
            if name not in where:
                where.append(name)
    return list(kinds.values())


def _origins(runs: Sequence[Run], names: Sequence[str]) -> list[tuple[Run, list[str]]]:
    """Runs of one command, commit and environment, as their first one and the names of all."""
    made: dict[str, tuple[Run, list[str]]] = {}
    for run, name in zip(runs, names, strict=True):
        made.setdefault(repr((run.command, run.git, run.versions, run.platform)), (run, []))[1].append(name)
    return list(made.values())


def _lead(rows: Sequence[Row]) -> Drawn | None:
    """The picture beside the answer: the scores of the only setting, or the settings beside each other."""
    if len(rows) > 1:
        return _beside(rows)
    shares = [each for each in metrics_of(rows) if each.higher_is_better and each.bounds == (0.0, 1.0)]
    names = [each.name for each in shares if each.in_table]
    svg = figures.scores(rows[0], names)
    return None if svg is None else Drawn(svg, captions.SCORES)


def _beside(rows: Sequence[Row]) -> Drawn | None:
    """All settings beside each other, by the first metric."""
    metric = next((each.name for each in metrics_of(rows)), "auroc")
    about = captions.BESIDE
    if any(row.values[metric].low is not None for row in rows if metric in row.values):
        about += " The line is the 95% interval over patients, and over seeds where there are several."
    if any(len(row.runs) > 1 for row in rows):
        about += " Pale dots: single seeds; bar: their mean."
    svg = figures.comparison(rows, metric)
    return None if svg is None else Drawn(svg, about)


def _headlines(rows: Sequence[Row]) -> list[str]:
    """A sentence a data set: of the setting that validation prefers, or of the only one."""
    sentences = []
    for dataset in dict.fromkeys(row.dataset for row in rows):
        inside = [row for row in rows if row.dataset == dataset]
        chosen = [row for row in inside if row.chosen]
        if chosen or len(inside) == 1:
            sentences.append(wording.headline((chosen or inside)[0], several=len(inside) > 1))
        else:
            scored = sum(bool(row.values) for row in inside)
            sentences.append(
                f"{len(inside)} settings on {dataset}, {scored} with results; without validation "
                "figures none can be preferred."
            )
    return sentences


def _table(rows: Sequence[Row]) -> dict[str, Any]:
    """Columns and cells of a results table; columns that no row fills are left out."""
    columns, cells = (
        ["model", "seeds"],
        [[Cell(row.model), Cell(wording.seeds(row))] for row in rows],
    )
    if len({row.dataset for row in rows}) > 1:
        columns.insert(0, "data set")
        for row, line in zip(rows, cells, strict=True):
            line.insert(0, Cell(row.dataset))
    for metric in (each for each in metrics_of(rows) if each.in_report):
        columns.append(metric.title)
        for row, line in zip(rows, cells, strict=True):
            value = row.values.get(metric.name)
            under = wording.interval(value)
            if metric.chance in row.values:
                share = f"{wording.title(metric.chance)} {wording.number(row.mean(metric.chance))}"
                under = share if under is None else f"{under}; {share}"
            line.append(Cell(wording.metric(value), under, row.mean(metric.name)))
    for name in COSTS:
        if any(name in row.costs for row in rows):
            columns.append(wording.title(name))
            for row, line in zip(rows, cells, strict=True):
                amount = row.costs[name] if name in row.costs else None
                line.append(Cell(wording.cost(row, name), None, amount))
    return {"columns": columns, "lines": list(zip(rows, cells, strict=True))}


def _overviews(rows: Sequence[Row], with_cost: bool) -> list[Drawn]:
    """Figures over all settings; a comparison shows their cost in figures of its own."""
    metric = next((each.name for each in metrics_of(rows)), "auroc")
    known = [validation_score(run) for row in rows for run in row.runs]
    watched = next((score[0] for score in known if score is not None), "auroc")
    drawn = (
        (
            figures.cost(rows, metric) if with_cost else None,
            captions.COST,
        ),
        (
            curves.learning_curves(rows, watched),
            captions.LEARNING_ALL,
        ),
    )
    return [Drawn(svg, caption) for svg, caption in drawn if svg is not None]


def _details(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A section a setting, in the order given, of as many as fit; see `_most_wanted` for which."""
    sections: dict[int, dict[str, Any]] = {}
    used = 0
    for place in _most_wanted(rows)[:MAX_DETAILED]:
        detail = setting_section(rows[place])
        used += sum(len(drawn.svg) for drawn, _ in detail["figures"])
        if sections and used > MAX_FIGURE_BYTES:
            break
        sections[place] = detail
    return [sections[place] for place in sorted(sections)]


def _most_wanted(rows: Sequence[Row]) -> list[int]:
    """Places of the rows: what validation prefers, then the data sets in turn, so that none goes without."""
    turn: list[int] = []
    for place, row in enumerate(rows):
        turn.append(sum(other.dataset == row.dataset for other in rows[:place]))
    return sorted(range(len(rows)), key=lambda place: (not rows[place].chosen, turn[place]))


def _leave_galleries_out(details: Sequence[dict[str, Any]]) -> None:
    """Drops galleries, from the first that would take the page beyond MAX_IMAGE_BYTES of images."""
    used = 0
    for detail in details:
        used += detail["gallery"].size if detail["gallery"] else 0
        if used > MAX_IMAGE_BYTES:
            detail |= {"gallery": None, "gallery_left_out": detail["gallery"] is not None}
