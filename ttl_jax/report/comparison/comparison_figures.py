"""The figures of a comparison: the critical-difference diagram, and accuracy against cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ttl_jax.evaluation.multiple import cliques
from ttl_jax.report.comparison.text import Line
from ttl_jax.report.figures import name_dots, time_ticks
from ttl_jax.report.svg import INK, MUTED, SERIES, drawing
from ttl_jax.report.wording import amount, duration, small

# field of a line -> what it is called, and how its figures are written
COSTS: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "ms": ("ms an image", small),
    "mb": ("MB on disk", small),
    "flops_image": ("FLOPs an image", amount),
    "seconds": ("training time", duration),
    "flops": ("training FLOPs", amount),
    "trainable": ("trainable parameters", amount),
}


class Difference(NamedTuple):
    """A strategy's difference from the reference, its 95% interval, and p after Holm's correction."""

    name: str
    estimate: float
    low: float | None
    high: float | None
    p: float | None


def differences(shown: Sequence[Difference], reference: str, metric: str) -> str | None:
    """Differences in points with their intervals, coloured where p is below 0.05; None without one."""
    if not shown:
        return None
    width = max(5.6, min(8.0, 3.4 + 0.07 * max(len(each.name) for each in shown)))
    with drawing(width, 0.8 + 0.3 * len(shown), f"Differences from {reference}, {metric} points") as made:
        axes = made.figure.subplots()
        axes.axvline(0, color=MUTED, linewidth=1)
        for height, each in enumerate(reversed(shown)):
            colour = SERIES[0] if each.p is not None and each.p < 0.05 else MUTED
            if each.low is not None and each.high is not None:
                axes.plot([100 * each.low, 100 * each.high], [height] * 2, color=colour, linewidth=2)
            axes.plot([100 * each.estimate], [height], "o", color=colour, markersize=6)
        axes.set_yticks(range(len(shown)), [each.name for each in reversed(shown)])
        axes.set(xlabel=f"{metric} points against {reference}", ylim=(-0.6, len(shown) - 0.4))
        axes.grid(axis="y", visible=False)
    return made.svg


def critical_difference(friedman: Mapping[str, Any]) -> str:
    """Demsar's diagram: mean ranks on a line, bars over strategies that do not differ surely."""
    names, ranks = friedman["strategies"], np.asarray(friedman["ranks"])
    order = np.argsort(ranks, kind="stable")
    bars = cliques(ranks, friedman["critical_difference"])
    half = (len(names) + 1) // 2
    top = 0.35 + 0.16 * len(bars)
    height = 0.9 + top + 0.24 * half
    with drawing(9.0, height, "Critical-difference diagram of mean ranks") as made:
        axes = made.figure.subplots()
        low, high = 1.0, float(len(names))
        span = high - low
        axes.plot([low, high], [0, 0], color=MUTED, linewidth=1)
        for tick in range(1, len(names) + 1, math.ceil(len(names) / 12)):
            axes.plot([tick, tick], [0, 0.12], color=MUTED, linewidth=1)
            axes.text(tick, 0.18, f"{tick}", ha="center", va="bottom", fontsize=8, color=MUTED)
        for place, index in enumerate(order):
            left = place < half
            level = -(top + 0.24 * (place if left else len(names) - 1 - place))
            edge = low - 0.04 * span if left else high + 0.04 * span
            axes.plot([ranks[index], ranks[index], edge], [0, level, level], color=INK, linewidth=0.8)
            gap = -0.012 * span if left else 0.012 * span
            axes.text(edge + gap, level, f"{names[index]}  {ranks[index]:.2f}", va="center",
                      ha="right" if left else "left", fontsize=8.5)  # fmt: skip
        ordered = ranks[order]
        for number, (first, last) in enumerate(bars):
            ends = [ordered[first] - 0.008 * span, ordered[last] + 0.008 * span]
            axes.plot(ends, [-0.16 * (number + 1)] * 2, color=SERIES[0], linewidth=3.2,
                      solid_capstyle="round")  # fmt: skip
        cd = min(friedman["critical_difference"], span)
        axes.plot([low, low + cd], [0.62, 0.62], color=SERIES[1], linewidth=2)
        label = f"critical difference {friedman['critical_difference']:.2f}"
        label += " (wider than the scale)" if friedman["critical_difference"] > span else ""
        axes.text(low, 0.68, label, fontsize=8, va="bottom", color=SERIES[1])
        axes.set(xlim=(low - 0.45 * span, high + 0.45 * span), ylim=(-height + 1.05, 0.95))
        axes.axis("off")
    return made.svg


def pareto_front(points: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """Places of the points (cost, value) that no other beats in both, cheapest first."""
    order = sorted(range(len(points)), key=lambda place: (points[place][0], -points[place][1]))
    front: list[int] = []
    for place in order:
        if not front or points[place][1] > points[front[-1]][1]:
            front.append(place)
    return tuple(front)


def costs_to_choose(lines: Sequence[Line]) -> tuple[str, ...]:
    """The costs that are known, those first in which lines differ: there is something to choose."""
    values = {name: {getattr(line, name) for line in lines if getattr(line, name)} for name in COSTS}
    return tuple(sorted((name for name in COSTS if values[name]), key=lambda name: len(values[name]) == 1))


def pareto(lines: Sequence[Line], dataset: str, cost: str) -> str | None:
    """The metric tested against one cost on a data set, its front joined and named; None with one dot."""
    label, written = COSTS[cost]
    metric = lines[0].metrics[0].metric
    paid = [(getattr(line, cost), line.metrics[0].mean, line) for line in lines if line.dataset == dataset]
    dots = [(x, y, line) for x, y, line in paid if x is not None and x > 0 and y is not None]
    if len(dots) < 2:
        return None
    several = len({line.model for line in lines}) > 1
    with drawing(5.6, 3.6, f"{metric.title} against {label} on {dataset}") as made:
        axes = made.figure.subplots()
        axes.set_xscale("log")
        axes.plot([x for x, *_ in dots], [y for _, y, _ in dots], "o", color=MUTED, markersize=4.5)
        front = [dots[place] for place in pareto_front([(x, metric.sign * y) for x, y, _ in dots])]
        axes.step([x for x, *_ in front], [y for _, y, _ in front], where="post", color=SERIES[0],
                  linewidth=1)  # fmt: skip
        axes.plot([x for x, *_ in front], [y for _, y, _ in front], "o", color=SERIES[0], markersize=6)
        axes.margins(0.22, 0.16)
        axes.set(xlabel=f"{label} (log scale)", ylabel=f"test {metric.title}", title=dataset)
        if cost == "seconds":
            time_ticks(axes, [x for x, *_ in dots])
        else:
            _log_ticks(axes, [x for x, *_ in dots], written)
        named = [(x, y, f"{line.strategy}, {line.model}" if several else line.strategy)
                 for x, y, line in front]  # fmt: skip
        name_dots(made.figure, axes, named, [(x, y) for x, y, _ in dots])
    return made.svg


def _log_ticks(axes: Any, costs: Sequence[float], text: Callable[[float], str]) -> None:
    """Marks 1, 2 and 5 of every decade, or decades alone where these would crowd."""
    from matplotlib.ticker import NullFormatter, NullLocator

    low, high = min(costs) / 1.5, max(costs) * 1.5
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [tick for tick in (10.0**power for power in decades) if low <= tick <= high]
    if len(ticks) < 3:
        fine = (step * 10.0**power for power in decades for step in (1, 2, 5))
        ticks = [tick for tick in fine if low <= tick <= high]
    ticks = ticks[:: 1 + len(ticks) // 6]
    axes.set_xticks(ticks, [text(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
