"""A search in words and rows, from the content of search.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttl_jax.evaluation import registry

PRICES = {"macs": "MACs", "params": "parameters", "latency": "latency"}
AXES = {"ttl": "last unit kept", "tf": "last unit at full width", "lwft": "last unit frozen"}


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
