"""The search in a figure: score along the units, with the price."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttl_jax.report.search_text import AXES, PRICES, confidence


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
    axes.set_xlabel(AXES[record["kind"]])  # fmt: skip
    axes.set_ylabel(f"validation {record['select']}")
    axes.set_xticks([unit["unit"] for unit in units])
    axes.set_title(f"{record['model']}, {record['kind'].upper()}, {record['method']}: "
                   f"{record['cost']:g} of {record['exhaustive_cost']} trainings\n{confidence(record)}",
                   fontsize=10)  # fmt: skip
    right = axes.twinx()
    right.plot([u["unit"] for u in units], [u["price"] for u in units], color="tab:orange", linewidth=1,
               linestyle="--", label=f"{PRICES[record['price']]} of one image, relative")  # fmt: skip
    right.set_ylim(0, 1.05)
    right.set_ylabel(f"relative {PRICES[record['price']]}")
    handles = [*axes.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
    names = [*axes.get_legend_handles_labels()[1], *right.get_legend_handles_labels()[1]]
    figure.legend(handles, names, fontsize=8, loc="outside lower center", ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
