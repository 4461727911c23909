"""The figures of results, each a function from rows or predictions to an inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ttl_jax.evaluation import registry
from ttl_jax.evaluation.metrics import confusion
from ttl_jax.evaluation.predictions import Predictions
from ttl_jax.evaluation.probability import log_odds
from ttl_jax.report.read import look_up
from ttl_jax.report.rows import Row
from ttl_jax.report.svg import INK, MUTED, ON_DEEP, PAPER, SERIES, drawing
from ttl_jax.report.wording import title

MAX_SERIES = len(SERIES)
MAX_MATRIX = 40  # classes in a confusion matrix that can still be read
_POINTS = 240  # a curve's points, more than the eye tells apart at this size


def comparison(rows: Sequence[Row], metric: str) -> str | None:
    """A dot a setting, with its interval (or a dot a seed, and the mean); None without values."""
    known = [(place, row) for place, row in enumerate(rows) if metric in row.values]
    if not known:
        return None
    # at least half of the width is left to the values, however long the labels are
    width = max(5.5, min(9.0, 3.6 + 0.075 * max(len(row.label) for _, row in known)))
    with drawing(width, 0.9 + 0.34 * len(known), f"{title(metric)} by setting") as made:
        axes = made.figure.subplots()
        for height, (place, row) in enumerate(reversed(known)):
            colour = SERIES[place] if place < MAX_SERIES else MUTED
            value = row.values[metric]
            if value.low is not None and value.high is not None:
                axes.plot([value.low, value.high], [height] * 2, color=colour, linewidth=1.8)
            if len(row.runs) > 1:
                each = [look_up(run.scores(row.split), metric) for run in row.runs]
                dots = [one for one in each if one is not None]
                axes.plot(dots, [height] * len(dots), "o", color=colour, markersize=4, alpha=0.45,
                          markeredgewidth=0)  # fmt: skip
                axes.plot([value.mean], [height], "|", color=colour, markersize=13,
                          markeredgewidth=2)  # fmt: skip
            else:
                axes.plot([value.mean], [height], "o", color=colour, markersize=6)
        axes.set_yticks(range(len(known)), [row.label for _, row in reversed(known)])
        axes.set(xlabel=f"{known[0][1].split} {title(metric)}", ylim=(-0.6, len(known) - 0.4))
        axes.grid(axis="y", visible=False)
    return made.svg


def scores(row: Row, metrics: Sequence[str]) -> str | None:
    """A dot a metric with its 95% interval, and a bar where chance stands; None without values."""
    known = [name for name in metrics if name in row.values]
    if not known:
        return None
    with drawing(5.6, 0.75 + 0.42 * len(known), "Scores with their intervals") as made:
        axes = made.figure.subplots()
        for height, name in enumerate(reversed(known)):
            value, chance = row.values[name], registry.known_metric(name).chance
            if value.low is not None and value.high is not None:
                axes.plot([value.low, value.high], [height] * 2, color=SERIES[0], linewidth=2.4)
            axes.plot([value.mean], [height], "o", color=SERIES[0], markersize=7)
            axes.annotate(f"{value.mean:.3f}", (value.mean, height), xytext=(0, 6), ha="center",
                          textcoords="offset points", fontsize=9, color=INK)  # fmt: skip
            by_chance = 0.5 if name == "auroc" else row.mean(chance)
            if by_chance is not None:
                axes.plot([by_chance], [height], "|", color=MUTED, markersize=14, markeredgewidth=1.5)
        axes.set_yticks(range(len(known)), [title(name) for name in reversed(known)])
        axes.set(ylim=(-0.5, len(known) - 0.25), xlim=(-0.02, 1.02), xlabel=f"{row.split} split")
        axes.grid(axis="y", visible=False)
    return made.svg


def cost(rows: Sequence[Row], metric: str) -> str | None:
    """A metric against seconds of training; None with fewer than two points."""
    known = [
        (place, row, row.values[metric].mean, row.costs["seconds"])
        for place, row in enumerate(rows)
        if metric in row.values and "seconds" in row.costs
    ]
    if len(known) < 2:
        return None
    with drawing(5.5, 3.4, f"{title(metric)} against training time") as made:
        axes = made.figure.subplots()
        axes.set_xscale("log")
        for place, _, mean, seconds in known:
            colour = SERIES[place] if place < MAX_SERIES else MUTED
            axes.plot([seconds], [mean], "o", color=colour, markersize=7)
        axes.margins(0.18, 0.15)
        time_ticks(axes, [seconds for *_, seconds in known])
        axes.set(xlabel="training time (log scale)", ylabel=f"{known[0][1].split} {title(metric)}")
        if len(known) <= 2 * MAX_SERIES:
            name_dots(made.figure, axes, [(x, y, row.label) for _, row, y, x in known])
    return made.svg


def confusion_matrix(predictions: Predictions) -> str | None:
    """Counts and row shares, true classes downwards; None for labels, or beyond MAX_MATRIX."""
    classes = len(predictions.class_names)
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    if predictions.task != "multiclass" or classes > MAX_MATRIX or not len(predictions):
        return None
    counts = confusion(predictions.labels, predictions.logits)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(5.2, 2.6 + 0.45 * classes) if classes <= 12 else 0.24 * classes + 1.8
    with drawing(side + 0.5, side, "Confusion matrix, rows true and columns predicted") as made:
        axes = made.figure.subplots()
        for row, column in zip(*np.nonzero(counts), strict=True):
            share = shares[row, column]
            axes.add_patch(
                Rectangle(
                    (column - 0.5, row - 0.5), 1, 1, linewidth=1.5, edgecolor=PAPER,
                    facecolor=to_rgba(SERIES[0], 0.04 + 0.96 * share),
                )
            )  # fmt: skip
            if classes <= 12:
                colour = ON_DEEP if share > 0.5 else INK
                axes.text(column, row, f"{counts[row, column]}", ha="center", color=colour,
                          va="bottom" if classes <= 6 else "center",
                          fontsize=10 if classes <= 6 else 8)  # fmt: skip
                if classes <= 6:
                    axes.text(column, row + 0.06, f"{share:.0%}", ha="center", va="top",
                              fontsize=8, color=colour)  # fmt: skip
        turn = 0 if classes <= 3 and max(map(len, predictions.class_names)) <= 12 else 45
        names = [name if len(name) <= 24 else f"{name[:23]}…" for name in predictions.class_names]
        axes.set_xticks(range(classes), names, rotation=turn, ha="right" if turn else "center",
                        rotation_mode="anchor" if turn else None)  # fmt: skip
        axes.set_yticks(range(classes), names)
        axes.set(xlim=(-0.5, classes - 0.5), ylim=(classes - 0.5, -0.5), aspect="equal",
                 xlabel="predicted", ylabel="true")  # fmt: skip
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return made.svg


def ranking_curves(predictions: Predictions) -> str | None:
    """ROC and precision-recall curves, with the prevalence that a chance ranking would reach.

    Two classes: of class index 1. More: the MAX_SERIES best supported classes or labels, each
    against the rest. None if no class has examples inside and outside.
    """
    from sklearn.metrics import precision_recall_curve, roc_curve

    pairs = _pairs(predictions)
    if not pairs:
        return None
    with drawing(11.4, 4.4, "ROC and precision-recall curves") as made:
        left, right = made.figure.subplots(1, 2)
        left.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
        for place, (name, truth, odds) in enumerate(pairs):
            false, true, _ = roc_curve(truth, odds)
            line: Any = {"color": SERIES[place], "linestyle": "-" if place < 4 else "--"}
            left.plot(*_thin(false, true), linewidth=1.4, **line)
            precision, recall, _ = precision_recall_curve(truth, odds)
            right.plot(*_thin(recall[::-1], precision[::-1]), linewidth=1.4, label=name,
                       drawstyle="steps-pre", **line)  # fmt: skip
            share = truth.mean()
            right.axhline(share, color=SERIES[place], linewidth=1.0, linestyle=":")
        if len(pairs) == 1:
            right.annotate(f"prevalence {share:.3f}", (0, share), xytext=(4, 3), fontsize=8,
                           textcoords="offset points", color=MUTED)  # fmt: skip
        else:
            right.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        left.set(title="ROC", xlabel="false positive rate (1 − specificity)",
                 ylabel="true positive rate (sensitivity)")  # fmt: skip
        right.set(title="Precision–recall", xlabel="recall (sensitivity)", ylabel="precision")
        for axes in (left, right):
            axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), aspect="equal")
    return made.svg


def _pairs(predictions: Predictions) -> list[tuple[str, np.ndarray, np.ndarray]]:
    odds = log_odds(predictions.logits, predictions.task)
    pairs = []
    for place, name in enumerate(predictions.class_names):
        if predictions.task == "multilabel":
            known = ~np.isnan(predictions.labels[:, place])
            truth = predictions.labels[known, place] == 1
        else:
            known = np.ones(len(predictions), dtype=bool)
            truth = predictions.labels == place
        if 0 < truth.sum() < len(truth):
            pairs.append((name, truth, odds[known, place]))
    if predictions.task == "multiclass" and len(predictions.class_names) == 2:
        return pairs[1:]
    return sorted(pairs, key=lambda item: -item[1].sum())[:MAX_SERIES]


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most _POINTS of a curve's points, both ends kept."""
    if len(x) <= _POINTS:
        return x, y
    keep = np.unique(np.linspace(0, len(x) - 1, _POINTS).round().astype(int))
    return x[keep], y[keep]


def name_dots(
    figure: Any,
    axes: Any,
    dots: Sequence[tuple[float, float, str]],
    others: Sequence[tuple[float, float]] = (),
) -> None:
    """Writes each dot's name beside it, where it covers no dot and no other name; `others` stay nameless."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()
    places = [axes.transData.transform(dot[:2]) for dot in (*dots, *others)]
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in places]
    frame = axes.get_window_extent()
    for x, y, name in dots:
        for right, up in ((1, 0.6), (-1, 0.6), (1, -1.6), (-1, -1.6), (1, 2.2), (-1, 2.2)):
            text = axes.annotate(name, (x, y), xytext=(7 * right, 6 * up), fontsize=8, color=INK,
                                 textcoords="offset points",
                                 ha="left" if right > 0 else "right")  # fmt: skip
            box = text.get_window_extent()
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def time_ticks(axes: Any, seconds: Sequence[float]) -> None:
    """Marks a logarithmic axis at round times."""
    from matplotlib.ticker import NullFormatter, NullLocator

    low, high = min(seconds), max(seconds)
    steps = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 36000, 86400)
    ticks = [step for step in steps if low / 2.1 <= step <= high * 2.1]
    if len(ticks) >= 2:
        axes.set_xticks(ticks, [_short(tick) for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _short(seconds: int) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
