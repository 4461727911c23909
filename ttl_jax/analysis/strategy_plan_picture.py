"""Picture of a plan: units from bottom to top, phases from left to right, coloured by label, with rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ttl_jax.analysis.strategy_plan import PhasePlan, Plan, UnitPlan
from ttl_jax.strategies import FREEZE, TRAIN

FROZEN, TRAINED, MIXED, OTHER, NOTHING, GONE = (
    "#c9d3df", "#d95f02", "#e9a15b", "#1b7f5c", "#f4f4f4", "#ffffff",
)  # fmt: skip
KEY = {
    "trains": TRAINED, "partly frozen": MIXED, "another label": OTHER, "frozen": FROZEN,
    "no parameters": NOTHING,
}  # fmt: skip
ROW, COLUMN, MARGIN = 0.24, 1.15, 2.6  # inches


def colour(unit: UnitPlan) -> str:
    """Return the colour of a unit in a phase."""
    labels = set(unit.labels)
    if not labels:
        return NOTHING
    if labels == {FREEZE}:
        return FROZEN
    if FREEZE in labels:
        return MIXED
    return TRAINED if labels == {TRAIN} else OTHER


def draw(plan: Plan, paths: tuple[Path, ...]) -> None:
    """Write the picture to every path; the suffix says the format (.png, .svg, .pdf)."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Rectangle

    units = [unit.unit for unit in plan.phases[0].units]
    names = [*units[:-1], *plan.dropped, units[-1]]  # the head on top of what was dropped, to be seen
    rows = {name: place for place, name in enumerate(names)}
    width = MARGIN + COLUMN * len(plan.phases)
    # one family: an SVG names the fonts anew at every word
    style: dict[Any, Any] = {"font.size": 7.5, "font.family": "DejaVu Sans"}
    with matplotlib.rc_context({**style, "svg.fonttype": "none", "svg.hashsalt": "ttl_jax"}):
        figure = Figure(figsize=(max(width, 6.0), ROW * len(names) + 2.0), layout="constrained")
        axes = figure.subplots()
        for place, phase in enumerate(plan.phases):
            for unit in phase.units:
                box = (place + 0.04, rows[unit.unit] + 0.06)
                axes.add_patch(Rectangle(box, 0.92, 0.88, color=colour(unit), linewidth=0))
                text = _inside(unit, phase)
                light = colour(unit) in (TRAINED, OTHER)
                axes.text(place + 0.5, rows[unit.unit] + 0.48, text, ha="center", va="center",
                          color="white" if light else "#333333")  # fmt: skip
            for name in plan.dropped:
                axes.add_patch(
                    Rectangle(
                        (place + 0.04, rows[name] + 0.06),
                        0.92,
                        0.88,
                        facecolor=GONE,
                        hatch="////",
                        edgecolor="#b8b8b8",
                        linewidth=0,
                    )  # fmt: skip
                )
        axes.set(xlim=(0, len(plan.phases)), ylim=(0, len(names)))
        axes.set_yticks(
            [place + 0.5 for place in range(len(names))],
            [f"{name} ({plan.fresh[name]})" if name in plan.fresh else name for name in names],
        )
        axes.set_xticks([place + 0.5 for place in range(len(plan.phases))], [_title(p) for p in plan.phases])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.suptitle(f"{plan.strategy}\n{plan.model}, {plan.parameters:,} parameters", fontsize=9.5)
        shown = {colour(unit) for phase in plan.phases for unit in phase.units}
        patches = [Patch(color=value, label=name) for name, value in KEY.items() if value in shown]
        if plan.dropped:
            patches.append(Patch(facecolor=GONE, hatch="////", edgecolor="#b8b8b8", label="dropped"))
        figure.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False)
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
            # an SVG stands on the page's own colour, light or dark
            figure.savefig(path, dpi=150, metadata=metadata, transparent=path.suffix == ".svg")


def _inside(unit: UnitPlan, phase: PhasePlan) -> str:
    """The learning-rate multiplier and, of a frozen unit whose statistics move, a note."""
    if not unit.labels:
        return ""
    if unit.rate == 0:
        return "" if unit.still or unit.unit == "head" else "stats move"
    if phase.measured or phase.solver:
        return phase.solver or "measured"
    return f"{'lr' if phase.base_lr is None else f'{phase.base_lr:g}'} x {unit.rate:.3g}"


def _title(phase: PhasePlan) -> str:
    counted = "" if phase.flops is None else f"\n{phase.flops / 1e9:.3g} GFLOP a step"
    return f"{phase.name}\n{phase.share:.0%} of steps\n{phase.trainable:,} train{counted}"
