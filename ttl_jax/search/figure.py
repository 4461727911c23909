"""The search in a figure (score along the units, with the price) and in a printed table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttl_jax.evaluation import registry

PRICE_NAMES = {"macs": "MACs", "params": "parameters", "latency": "latency"}


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Writes the figure of a search.json's content as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    units = record["units"]
    tried = [unit for unit in units if unit["score"] is not None]
    early = [t for t in record["trials"] if t["budget"] < 1 and t["score"] is not None]
    axes.scatter(
        [t["unit"] for t in early], [t["score"] for t in early],
        facecolors="none", edgecolors="tab:blue", s=22, alpha=0.6, label="stopped or on the way",
    ) if early else None  # fmt: skip
    axes.plot([u["unit"] for u in tried], [u["score"] for u in tried], "o-", color="tab:blue",
              label=f"validation {record['select']}")  # fmt: skip
    axes.plot([record["best"]], [record["score"]], "*", color="tab:red", markersize=15,
              label=f"chosen: unit {record['best']} ({record['unit']})")  # fmt: skip
    for stage in record["stages"]:
        axes.axvline(stage, color="0.85", zorder=0)
    axes.set_xlabel({"ttl": "last unit kept", "tf": "last unit at full width",
                     "lwft": "last unit frozen"}[record["kind"]])  # fmt: skip
    axes.set_ylabel(f"validation {record['select']}")
    axes.set_xticks([unit["unit"] for unit in units])
    axes.set_title(f"{record['model']}, {record['kind'].upper()}, {record['method']}: "
                   f"{record['cost']:g} of {record['exhaustive_cost']} trainings\n{confidence(record)}",
                   fontsize=10)  # fmt: skip
    right = axes.twinx()
    right.plot([u["unit"] for u in units], [u["price"] for u in units], color="tab:orange", linewidth=1,
               linestyle="--", label=f"{PRICE_NAMES[record['price']]} of one image, relative")  # fmt: skip
    right.set_ylim(0, 1.05)
    right.set_ylabel(f"relative {PRICE_NAMES[record['price']]}")
    handles = [*axes.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
    names = [*axes.get_legend_handles_labels()[1], *right.get_legend_handles_labels()[1]]
    figure.legend(handles, names, fontsize=8, loc="outside lower center", ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The printed table: one line a unit that was tried, the chosen one marked."""
    tried: dict[int, list[Mapping[str, Any]]] = {}
    for trial in record["trials"]:
        tried.setdefault(trial["unit"], []).append(trial)
    lines = []
    for unit in record["units"]:
        if unit["unit"] not in tried:
            continue
        trials = tried[unit["unit"]]
        last = max(trials, key=lambda trial: trial["budget"])
        score = unit["score"] if unit["score"] is not None else last["score"]
        marks = ("chosen " if unit["unit"] == record["best"] else "") + (
            "front" if unit["unit"] in record["front"] else ""
        )
        lines.append(
            {
                "unit": f"{unit['unit']} {unit['name']}",
                "strategy": unit["strategy"],
                f"val {record['select']}": "failed" if score is None else f"{score:.4f}",
                "trained": f"{last['budget']:.0%}",
                "seeds": str(len({trial["seed"] for trial in trials})),
                "params (M)": f"{unit['params'] / 1e6:.3f}",
                "MACs (G)": f"{unit['macs'] / 1e9:.3f}",
                "": marks.strip(),
            }
        )
    return lines


def confidence(record: Mapping[str, Any]) -> str:
    """Return, in words, how sure the choice is."""
    if record["confidence"] is None:
        return f"no confidence can be named that no unit is better by more than {record['tolerance']:g}"
    return f"no unit is better by more than {record['tolerance']:g}, at {record['confidence']:.0%} confidence"


def sentence(record: Mapping[str, Any]) -> str:
    """Return, as one sentence, what was chosen, why, at which cost, and its test scores."""
    test = record["test"]
    figures = []
    for name in (each.name for each in registry.metrics() if each.in_table):
        if name in test:
            spread = f" ± {test[name + '_sd']:.4f}" if f"{name}_sd" in test else ""
            figures.append(f"{name} {test[name]:.4f}{spread}")
    return (
        f"{record['strategy']} ({record['unit']}) for {record['cost']:g} of {record['exhaustive_cost']} "
        f"trainings: {record['reason']}\n{confidence(record)}\ntest split, once: {', '.join(figures)}"
    )
