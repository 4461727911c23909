"""A comparison in words and rows, from the content of compare.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttl_jax.errors import UserError
from ttl_jax.evaluation import registry
from ttl_jax.evaluation.registry import figure
from ttl_jax.report import wording
from ttl_jax.report.read import inside, look_up

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A metric's mean over seeds and its 95 % interval; chance: the mean of `Metric.chance`."""

    metric: registry.Metric
    mean: float | None
    low: float | None
    high: float | None
    chance: float | None


@dataclass(frozen=True)
class Line:
    """A strategy on a data set and model, as a row of the tables; None where something is not known.

    metrics: see `metrics_of`. difference (with d_low, d_high, p, after Holm): less the reference; caveat: why
    nothing can be claimed from it; needed: what would settle it where it is open, "12 seeds" or "640
    patients". ms, mb, flops_image: milliseconds of a forward pass of one image, megabytes on disk as float32,
    and operations of that pass. seconds, flops: of a training; length: of it, as a multiple of the
    reference's steps or epochs. trainable: parameters, of params in the whole network. edge: the best rate is
    the lowest or highest tried. strengths: of the strategy, chosen as the rate; with a * those at an edge.
    """

    dataset: str
    model: str
    strategy: str
    seeds: int
    metrics: tuple[Column, ...]
    difference: float | None
    d_low: float | None
    d_high: float | None
    p: float | None
    caveat: str
    needed: str
    validation: float | None
    lr: float | None
    edge: bool
    strengths: str
    ms: float | None
    mb: float | None
    flops_image: float | None
    length: float
    seconds: float | None
    flops: float | None
    trainable: float | None
    params: float | None
    note: str


def read_comparison(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """compare.json of a comparison's work folder, and the folders of its final cells.

    Raises:
        UserError: the file is not readable, or no cell is finished.
    """
    try:
        content = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
        finals = [cell["folder"] for setting in content["settings"] for cell in setting["cells"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / 'compare.json'} is not readable: {error!r}; run compare again") from None
    cells = [inside(folder, name) for name in finals]
    if not cells:
        raise UserError(f"{folder} holds no finished cell yet; run compare again")
    return with_pictures(content, folder), cells


def with_pictures(comparison: Record, folder: Path) -> dict[str, Any]:
    """The same with each strategy's picture as SVG text, those that are missing left out."""
    pictures = comparison["pictures"] if "pictures" in comparison else ()  # an older compare.json has none
    there = [(each, inside(folder, each["path"])) for each in pictures]
    read = [{**each, "svg": path.read_text(encoding="utf-8")} for each, path in there if path.is_file()]
    return {**comparison, "pictures": read}


def metrics_of(comparison: Record) -> tuple[registry.Metric, ...]:
    """The metrics of a comparison's tables: the one that its statistics are of, then the others."""
    tested = registry.known_metric(comparison["statistics"]["metric"])
    return tested, *(each for each in registry.metrics() if each.in_comparison and each != tested)


def sign_of(comparison: Record) -> float:
    """1 where a positive difference is an improvement, -1 where a negative one is."""
    higher = look_up(comparison["statistics"], "higher_is_better")  # an older compare.json does not say
    tested = registry.known_metric(comparison["statistics"]["metric"])
    return tested.sign if higher is None else 1.0 if higher else -1.0


def lines(comparison: Record) -> tuple[Line, ...]:
    """One line a setting, in the order of compare.json."""
    differences = {
        (each["dataset"], each["model"], each["strategy"]): each
        for each in comparison["statistics"]["differences"]
    }
    select, metrics = comparison["protocol"]["select"], metrics_of(comparison)
    made = []
    for each in comparison["settings"]:
        key = each["dataset"], each["model"], each["strategy"]
        against = differences[key] if key in differences else {}
        test = each["test"]
        chosen = [figure(cell["val"], select) for cell in each["cells"]]
        chosen = [value for value in chosen if not math.isnan(value)]
        made.append(
            Line(
                dataset=each["dataset"] or "data",
                model=each["model"],
                strategy=each["strategy"],
                seeds=len(each["cells"]),
                metrics=tuple(_column(metric, test) for metric in metrics),
                difference=look_up(against, "estimate"),
                d_low=look_up(against, "low"),
                d_high=look_up(against, "high"),
                p=look_up(against, "p_holm"),
                caveat=look_up(against, "caveat") or "",
                needed=_needed(against),
                validation=sum(chosen) / len(chosen) if chosen else None,
                lr=each["lr"],
                edge=each["lr_at_edge"],
                strengths=_strengths(each),
                ms=look_up(each, "inference", "ms"),
                mb=_megabytes(each),
                flops_image=look_up(each, "inference", "flops"),
                length=look_up(each, "length") or 1.0,  # an older compare.json has none
                seconds=each["seconds"],
                flops=each["flops"],
                trainable=each["trainable_params"],
                params=each["params"],
                note=each["note"],
            )
        )
    return tuple(made)


def _column(metric: registry.Metric, test: Record) -> Column:
    mean, low, high = (look_up(test, metric.name, key) for key in ("mean", "low", "high"))
    return Column(metric, mean, low, high, look_up(test, metric.chance, "mean"))


def _strengths(setting: Record) -> str:
    """As in "alpha=0.1*, beta=0.01"; with the strategy's key where two of them share a name."""
    chosen = look_up(setting, "options") or {}  # an older compare.json has none
    names = [name.rpartition(".")[2] for name in chosen]
    edges = look_up(setting, "options_at_edge") or ()
    return ", ".join(
        f"{short if names.count(short) == 1 else name}={value:g}" + "*" * (name in edges)
        for (name, value), short in zip(chosen.items(), names, strict=True)
    )


def _needed(difference: Record) -> str:
    """Return what would show the gain that compare.json names; "" where nothing is open or known."""
    seeds, patients = look_up(difference, "needed_seeds"), look_up(difference, "needed_patients")
    if seeds is None and patients is None:
        return ""
    return f"{seeds:,} seeds" if patients is None else f"{patients:,} patients"


def _megabytes(setting: Record) -> float | None:
    """Of a weights file; from a compare.json without it, four bytes a parameter (no running statistics)."""
    size = look_up(setting, "inference", "file_bytes")
    size = 4 * setting["params"] if size is None and setting["params"] else size
    return None if size is None else size / 1e6


def varying_length(rows: Sequence[Line]) -> bool:
    """Return whether some settings train for longer than others, as with budgets of equal operations."""
    return any(row.length != 1 for row in rows)


def points(value: float | None, sign: bool = True) -> str:
    """A difference of a metric in points, as "+1.2"."""
    if value is None:
        return wording.ABSENT
    text = f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"
    return text.replace("-", "−")


def p_value(p: float | None) -> str:
    """As "0.012" or "< 0.001"."""
    if p is None:
        return wording.ABSENT
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def headlines(comparison: Record) -> list[str]:
    """The answer in words: one sentence over all data sets, then one each.

    The strategy spoken of is the one with the best mean validation figure over the data sets and
    models on which all are known; the test split takes no part in that choice.
    """
    statistics, rows, sign = comparison["statistics"], lines(comparison), sign_of(comparison)
    reference, metric = statistics["reference"], statistics["metric"]
    name, gain = wording.title(metric), look_up(statistics, "gain")
    figures = {_place(each): look_up(each["test"], metric, "mean") for each in comparison["settings"]}
    best = preferred(comparison)
    if best is None:
        return ["No strategy is finished yet, so none can be preferred."]
    if best == reference:
        rivals = [line for line in rows if _surely(line, sign)]
        text = f"Validation prefers {reference}, the reference itself"
        if rivals:
            names = ", ".join(dict.fromkeys(f"{line.strategy} on {line.dataset}" for line in rivals))
            return [f"{text}; on the test split it is beaten, after Holm's correction, by {names}."]
        caveats = {line.caveat for line in rows if line.difference is not None}
        if caveats and "" not in caveats:
            return [
                f"{text}; whether another strategy beats it cannot be told ({'; '.join(sorted(caveats))})."
            ]
        return [f"{text}; no other strategy beats it on a test split after Holm's correction."]
    tested = [line for line in rows if line.strategy == best and line.difference is not None]
    if not tested:
        return [f"Validation prefers {best}; it could not be tested against {reference}."]
    sure = [line for line in tested if _surely(line, sign)]
    worse = [line for line in tested if _surely(line, -sign)]
    count = len(statistics["differences"])
    said = []
    several_models = len({line.model for line in rows}) > 1
    if len(tested) > 1:
        verdict = (
            f"{best}, preferred on validation, beats {reference} on {len(sure)} of {len(tested)} test sets"
        )
        verdict += f" and loses on {len(worse)}" if worse else ""
        untold = sum(bool(line.caveat) for line in tested)
        verdict += f"; on {untold} it cannot be told" if untold else ""
        said.append(f"{verdict} (p < 0.05 after Holm's correction for {count} comparisons).")
    for each in pooled(comparison):
        if each["strategy"] == best:
            over = f"Over {each['sets']} data sets like these" + f" with {each['model']}" * several_models
            interval = between(each["estimate"], each["low"], each["high"])
            p = f"p = {p_value(each['p_holm'])}".replace("p = <", "p\u00a0<")
            said.append(f"{over}: {interval} {name} points, {p} after Holm over the strategies.")
    for line in tested:
        verb = "beats" if line in sure else "loses to" if line in worse else "does not differ surely from"
        place = f"{line.dataset}, {line.model}" if several_models else line.dataset
        start = f"On {place}, {best} {verb} {reference}"
        if line.caveat:
            start = f"On {place}, whether {best} differs from {reference} cannot be told ({line.caveat})"
        p = "" if line.caveat else f", p = {p_value(line.p)} after Holm".replace("p = <", "p <")
        figure = wording.number(figures[line.dataset, line.model, line.strategy])
        needs = f" A true gain of {points(gain, False)} points would take {line.needed}."
        said.append(
            f"{start}: {points(line.difference)} {name} points [{points(line.d_low)}, {points(line.d_high)}]"
            f"{p} ({name} {figure}).{needs if line.needed else ''}".replace("p < ", "p\u00a0<\u00a0")
        )
    return said


def _surely(line: Line, sign: float) -> bool:
    """A difference of this sign is claimed."""
    return line.p is not None and line.p < 0.05 and sign * (line.difference or 0) > 0


def _place(each: Record) -> tuple[str, str, str]:
    return each["dataset"] or "data", each["model"], each["strategy"]


def comparisons(comparison: Record) -> list[dict[str, str]]:
    """Every comparison as a row of the terminal's table, those over data sets last."""
    statistics, rows = comparison["statistics"], lines(comparison)
    tested = [line for line in rows if line.difference is not None]
    if not tested:
        return []
    against = f"{wording.title(statistics['metric'])} points [95 %]"
    head = ["data set", "model", "strategy", against, "p (Holm)", needing(comparison)]
    body = [
        [line.dataset, line.model, line.strategy, between(line.difference, line.d_low, line.d_high),
         "cannot be told" if line.caveat else p_value(line.p), line.needed]
        for line in tested
    ]  # fmt: skip
    body += [
        [f"all {each['sets']}", each["model"], each["strategy"],
         between(each["estimate"], each["low"], each["high"]), p_value(each["p_holm"]), ""]
        for each in pooled(comparison)
    ]  # fmt: skip
    return [dict(zip(head, row, strict=True)) for row in body]


def data_sets(comparison: Record) -> list[str]:
    """A sentence a data set, as its first finished cell knows it; a fold's counts are the first one's."""
    said: dict[str, str] = {}
    for each in comparison["settings"]:
        name = each["dataset"] or "data"
        for cell in each["cells"]:
            if name not in said and look_up(cell, "data") is not None:
                said[name] = wording.data(name, cell["data"])
    return list(said.values())


def warned(comparison: Record) -> list[str]:
    """A line a setting whose cells have warnings, for the terminal; an older compare.json has none."""
    said = []
    for each in comparison["settings"]:
        codes = look_up(each, "warnings") or {}
        if codes:
            count = len(each["cells"])
            kinds = ", ".join(f"{code.replace('_', ' ')} ({n} of {count})" for code, n in codes.items())
            place = ", ".join(_place(each))
            said.append(f"WARNING {place}: {kinds}; result.json of each cell says what to do")
    return said


def needing(comparison: Record) -> str:
    """The title of `Line.needed`."""
    return f"for {points(look_up(comparison, 'statistics', 'gain') or 0.02)} needs"


def pooled(comparison: Record) -> list[dict[str, Any]]:
    """The comparisons over data sets; an older compare.json has none."""
    return look_up(comparison, "statistics", "pooled") or []


def between(estimate: float | None, low: float | None, high: float | None) -> str:
    """As "+1.2 [−0.3, +2.7]"; without an estimate the interval alone."""
    spread = "" if low is None else f"[{points(low)}, {points(high)}]"
    return f"{points(estimate)} {spread}".strip() if estimate is not None or not spread else spread


def preferred(comparison: Record) -> str | None:
    """The strategy with the best mean validation figure, of those known on every data set and model."""
    rows, sign = lines(comparison), sign_of(comparison)
    blocks = {(line.dataset, line.model) for line in rows}
    figures: dict[str, list[float]] = {}
    for line in rows:
        if line.validation is not None:
            figures.setdefault(line.strategy, []).append(line.validation)
    whole = {
        name: sum(values) / len(values) for name, values in figures.items() if len(values) == len(blocks)
    }
    return max(whole, key=lambda name: sign * whole[name]) if whole else None
