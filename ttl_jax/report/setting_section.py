"""The section of one setting in a report: its figures, its tables and its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ttl_jax.evaluation.bootstrap import Interval
from ttl_jax.evaluation.intervals import Proportion, clustered_proportion
from ttl_jax.evaluation.metrics import confusion
from ttl_jax.evaluation.predictions import Predictions
from ttl_jax.evaluation.probability import decide
from ttl_jax.evaluation.subgroups import gaps, subgroups
from ttl_jax.report import captions, curves, decision_figures, figures, wording
from ttl_jax.report.calibrated import Rescaled, rescaled
from ttl_jax.report.gallery import gallery
from ttl_jax.report.histograms import histograms
from ttl_jax.report.operating import OperatingRow, operating_rows
from ttl_jax.report.read import Run, look_up
from ttl_jax.report.rows import Row
from ttl_jax.report.surest_errors import confident_errors
from ttl_jax.report.svg import Drawn

_PER_CLASS = ("recall", "precision", "f1", "auroc", "auprc", "prevalence", "support")


@dataclass(frozen=True)
class Cell:
    """A table cell: its text, a second line, and the number that it is sorted by."""

    text: str
    under: str | None = None
    value: float | None = None


def spread(interval: Interval | Proportion) -> str | None:
    """An interval, as "0.881 to 0.940"."""
    if interval.low is None or interval.high is None:
        return None
    return f"{wording.number(interval.low)} to {wording.number(interval.high)}"


def setting_section(row: Row) -> dict[str, Any]:
    """A setting's own section: of its first seed that has results on the split."""
    scored = [run for run in row.runs if run.scores(row.split) is not None]
    run = (scored or row.runs)[0]
    predictions = run.predictions(row.split)
    validation = None if row.split == "val" else run.predictions("val")
    scores = run.scores(row.split)
    calibrated: Rescaled | None = None
    operating: tuple[OperatingRow, ...] = ()
    drawn = [
        (curves.learning_curve(run), captions.LEARNING, "wide"),
        (histograms(run), captions.HISTOGRAMS, "wide"),
    ]
    if predictions is not None and len(predictions):
        calibrated = rescaled(validation, predictions)
        operating = operating_rows(validation, predictions) if validation is not None else ()
        drawn += [
            (figures.ranking_curves(predictions), _about_curves(predictions), "wide"),
            (
                figures.confusion_matrix(predictions),
                captions.CONFUSION,
                "",
            ),
            (
                decision_figures.net_benefit(predictions, calibrated.temperature),
                captions.NET_BENEFIT,
                "" if len(predictions.class_names) == 2 else "wide",
            ),
            (
                decision_figures.reliability(predictions, calibrated.scaled),
                captions.RELIABILITY,
                "" if calibrated.scaled is None else "wide",
            ),
        ]
    return {
        "row": row,
        "run": run,
        "scores": scores,
        "data": None if predictions is None else _about_data(predictions),
        "batch_norm": _batch_norm(run),
        "figures": [(Drawn(svg, caption), kind) for svg, caption, kind in drawn if svg],
        "calibrated": () if calibrated is None else calibrated.rows,
        "operating": operating,
        "per_class": _per_class(scores, predictions),
        "decisions": _decisions(predictions),
        "subgroups": () if predictions is None else subgroups(predictions),
        "gaps": () if predictions is None else gaps(predictions),
        "external": look_up(run.result, "external"),
        "errors": () if predictions is None else confident_errors(predictions),
        "absent": look_up(scores, "absent") or [],
        "gallery": gallery(run),
        "gallery_left_out": False,
    }


def _batch_norm(run: Run) -> str:
    """The estimate of BatchNorm's running statistics; "" where there were none, or it is not known."""
    estimate, momentum = (run.told(f"bn_{name}", "model", f"bn_{name}") for name in ("estimate", "momentum"))
    return f"{estimate}, momentum {momentum:g}" if estimate else ""


def _about_curves(predictions: Predictions) -> str:
    names = predictions.class_names
    if predictions.task == "multiclass" and len(names) == 2:
        what = f"Positive class: {names[1]}."
    else:
        kind = "label" if predictions.task == "multilabel" else "class against the rest"
        what = f"One curve a {kind}, the {min(len(names), figures.MAX_SERIES)} with most examples."
    return (
        f"{captions.RANKING} {what} Dotted: a ranking by chance, which reaches the prevalence in precision."
    )


def _about_data(predictions: Predictions) -> str:
    groups = len(set(predictions.groups.tolist()))
    text = f"{len(predictions):,} examples"
    return text if groups == len(predictions) else f"{text} of {groups:,} groups"


def _per_class(scores: Any, predictions: Predictions | None) -> list[tuple[str, list[Cell]]]:
    """Each class's figures; below recall and precision, which are shares, their 95% intervals."""
    table = look_up(scores, "per_class") or {}
    shares = {} if predictions is None else _shares(predictions)
    classes = []
    for name, entry in table.items():
        cells = []
        for key in _PER_CLASS:
            value = look_up(entry, key)
            text = wording.number(value)
            if key == "support" and value is not None:
                text = f"{int(value):,}"
            share = shares[name, key] if (name, key) in shares else None
            under = None if share is None else spread(share)
            cells.append(Cell(text, under, value))
        classes.append((name, cells))
    return classes


def _shares(predictions: Predictions) -> dict[tuple[str, str], Proportion]:
    """Recall and precision of each class (label), over the examples where it is known."""
    said = decide(predictions.probabilities, predictions.task)
    shares = {}
    for place, name in enumerate(predictions.class_names):
        several = predictions.task == "multilabel"
        of = predictions.labels[:, place] if several else predictions.labels
        known = ~np.isnan(of)
        true = of[known] == (1 if several else place)
        taken = (said[:, place] == 1 if several else said == place)[known]
        groups = predictions.groups[known]
        shares[name, "recall"] = clustered_proportion(taken[true], groups[true])
        shares[name, "precision"] = clustered_proportion(true[taken], groups[taken])
    return shares


def _decisions(predictions: Predictions | None) -> list[tuple[str, list[int]]]:
    """Of every label of a multi-label task: true and false positives, false and true negatives."""
    if predictions is None or predictions.task != "multilabel" or not len(predictions):
        return []
    counts = confusion(predictions.labels, predictions.logits, "multilabel")
    return [
        (name, [int(each[1, 1]), int(each[0, 1]), int(each[1, 0]), int(each[0, 0])])
        for name, each in zip(predictions.class_names, counts, strict=True)
    ]
