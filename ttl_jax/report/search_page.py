"""The page of a search, beside that of its winner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttl_jax.errors import UserError
from ttl_jax.report import captions, wording
from ttl_jax.report.read import inside, look_up
from ttl_jax.report.search_text import AXES, PRICES, confidence, rows
from ttl_jax.report.svg import GRID, INK, MUTED, SERIES, Drawn, drawing
from ttl_jax.system.json_object import read_object


def read_search(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """search.json with each whole trial's interval on validation, and the folders of the winner's trials.

    Raises:
        UserError: the file is not readable.
    """
    record = read_object(folder / "search.json")
    try:
        for trial in record["trials"]:
            path = inside(folder, trial["folder"]) / "result.json"
            result = read_object(path) if trial["budget"] == 1 and path.is_file() else None
            trial["interval"] = look_up(result, "intervals", "val", record["select"])
        whole = (trial for trial in record["trials"] if trial["budget"] == 1)
        winners = dict.fromkeys(trial["folder"] for trial in whole if trial["unit"] == record["best"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / 'search.json'} is not readable: {error!r}; run search again") from None
    return record, [folder / name for name in winners]


def variables(record: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of page_search.html.

    Args:
        record: the content of search.json, as `read_search` gives it.
    """
    table = rows(record)
    best = next(unit for unit in record["units"] if unit["unit"] == record["best"])
    whole = max(record["units"], key=lambda unit: unit["unit"])
    return {
        "lead": Drawn(curve(record), captions.SEARCH),
        "rows": table,
        "columns": list(table[0]) if table else [],
        "facts": [
            ("Trainings", f"{record['cost']:g}", f"of {record['exhaustive_cost']}, one a unit"),
            ("Parameters", wording.amount(best["params"]), f"of {wording.amount(whole['params'])}"),
            ("MACs an image", wording.amount(best["macs"]), f"of {wording.amount(whole['macs'])}"),
        ],
        "reason": record["reason"],
    }


def headlines(record: Mapping[str, Any]) -> list[str]:
    """The answer in words: what was chosen, how it does on the test split, and what finding it cost."""
    select, test = record["select"], record["test"]
    spread = f" ± {test[f'{select}_sd']:.3f}" if f"{select}_sd" in test else ""
    reached = f"{wording.title(select)} {wording.number(look_up(test, select))}{spread}"
    verb = {"ttl": "cut after", "tf": "slim above", "lwft": "frozen up to"}[record["kind"]]
    return [
        f"{record['model']} is best {verb} unit {record['best']} ({record['unit']}): {reached} on the test "
        f"split, found for {record['cost']:g} trainings instead of {record['exhaustive_cost']}.",
        f"{confidence(record)[0].upper()}{confidence(record)[1:]}.",
    ]


def curve(record: Mapping[str, Any]) -> str:
    """The validation score by unit with intervals, the chosen unit, and what an image costs."""
    select = wording.title(record["select"])
    with drawing(6.4, 4.0, f"{select} on validation by unit; chosen: unit {record['best']}") as made:
        axes = made.figure.subplots()
        for stage in record["stages"]:
            axes.axvline(stage, color=GRID, linewidth=1, zorder=0)
        early = [t for t in record["trials"] if t["budget"] < 1 and t["score"] is not None]
        if early:
            axes.plot([t["unit"] for t in early], [t["score"] for t in early], "o", color=MUTED, markersize=4,
                      markerfacecolor="none", markeredgewidth=0.8, label="stopped early")  # fmt: skip
        whole = [t for t in record["trials"] if t["budget"] == 1 and t["score"] is not None]
        for trial in whole:
            if look_up(trial, "interval"):
                axes.plot([trial["unit"]] * 2, trial["interval"], color=SERIES[0], linewidth=1.6, alpha=0.5)
        tried = [unit for unit in record["units"] if unit["score"] is not None]
        axes.plot([t["unit"] for t in whole], [t["score"] for t in whole], "o", color=SERIES[0],
                  markersize=4.5, label="whole training")  # fmt: skip
        axes.plot([unit["unit"] for unit in tried], [unit["score"] for unit in tried], color=SERIES[0],
                  linewidth=1)  # fmt: skip
        axes.plot([record["best"]], [record["score"]], "D", color=SERIES[1], markersize=8,
                  label=f"chosen: {record['best']} ({record['unit']})")  # fmt: skip
        axes.set(xlabel=AXES[record["kind"]], ylabel=f"{select} on validation")
        units = [unit["unit"] for unit in record["units"]]
        axes.set_xticks(units[:: 1 + len(units) // 20])
        right = axes.twinx()
        right.plot(units, [unit["price"] for unit in record["units"]], color=SERIES[4], linewidth=1.2,
                   linestyle="--", label=f"{PRICES[record['price']]} of an image")  # fmt: skip
        right.set(ylim=(0, 1.05))
        right.set_ylabel(f"{PRICES[record['price']]}, share of the whole network", color=INK)
        right.grid(visible=False)
        handles = [each for pane in (axes, right) for each in pane.get_legend_handles_labels()[0]]
        made.figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return made.svg
