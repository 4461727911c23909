"""Numbers as people read them, in the page and in the terminal alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttl_jax.evaluation import registry
from ttl_jax.report.rows import COSTS, Row, Value, validation_score

ABSENT = "–"


def title(name: str) -> str:
    """The name of a metric or a cost in tables and figures."""
    return COSTS[name] if name in COSTS else registry.known_metric(name).title


def metric(value: Value | None) -> str:
    """As "0.912", or with several runs "0.912 ± 0.013"."""
    if value is None:
        return ABSENT
    return number(value.mean) + ("" if value.sd is None else f" ± {number(value.sd)}")


def interval(value: Value | None) -> str | None:
    """As "0.881 to 0.940", or None."""
    if value is None or value.low is None or value.high is None:
        return None
    return f"{number(value.low)} to {number(value.high)}"


def number(value: float | None) -> str:
    """Three decimals."""
    return ABSENT if value is None else f"{value:.3f}"


def amount(value: float | None) -> str:
    """As "23.5 M": three figures, and whole below a thousand."""
    if value is None:
        return ABSENT
    for size, letter in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= 0.9995 * size:  # what rounds to 1000 of the smaller unit is 1 of this
            return f"{value / size:.3g}{letter}"
    return f"{value:.0f}"


def small(value: float | None) -> str:
    """Milliseconds or megabytes: three figures, and whole from a hundred on."""
    return ABSENT if value is None else f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """As "48.2 s", "13 min 32 s" or "2 h 05 min"."""
    if seconds is None:
        return ABSENT
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def cost(row: Row, name: str) -> str:
    """A cost column of a row."""
    value = row.costs[name] if name in row.costs else None
    return duration(value) if name == "seconds" else amount(value)


def seeds(row: Row) -> str:
    """As "0", "0–4" or "1, 3, 7"."""
    known = [seed for seed in row.seeds if seed is not None]
    if not known:
        return ABSENT
    if len(known) > 2 and known == list(range(known[0], known[-1] + 1)):
        return f"{known[0]}–{known[-1]}"
    return ", ".join(str(seed) for seed in known)


def data(name: str, card: Mapping[str, Any]) -> str:
    """A data set in a sentence: its origin, its counts by class and split, and where the split came from.

    Args:
        name: the data set's name.
        card: the "data" of a result.json; older ones have the counts alone.
    """
    counts = "; ".join(
        f"{part} {row['examples']} ({', '.join(f'{label} {n}' for label, n in row['classes'].items())})"
        for part, row in card["splits"].items()
    )
    origin = f" ({card['source']})" if card.get("source") else ""
    made = f"; split {card['splits_from']}" if card.get("splits_from") else ""
    return f"{name}{origin}: {counts}{made}" + "".join(f"; {note}" for note in card.get("notes", ()))


def split(name: str) -> str:
    """As "validation split"."""
    return {"val": "validation", "test": "test", "shifted": "shifted test"}[name] + " split"


def headline(row: Row, several: bool) -> str:
    """One sentence: what was trained, how well it does and what it cost.

    several: the row is the one that validation prefers among several settings.
    """
    if not row.values:
        return f"{row.strategy} on {row.model} ({row.dataset}): {row.note or 'nothing scored yet'}."
    parts = []
    selected = validation_score(row.runs[0])
    for name in dict.fromkeys((selected[0] if selected else "auroc", "auroc", "accuracy")):
        if name in row.values:
            spread = interval(row.values[name])
            spread = f" (95% interval {spread})" if spread else ""
            parts.append(f"{title(name)} {metric(row.values[name])}{spread}")
    scored = max(value.runs for value in row.values.values())
    chosen = ", preferred on validation," if several else ""
    text = f"On the {row.dataset} {split(row.split)}, {row.strategy} ({row.model}){chosen} reaches "
    text += " and ".join(parts) + (f" (mean ± sd of {scored} seeds)" if scored > 1 else "")
    if "trainable_params" in row.costs and "params" in row.costs:
        trained, whole = cost(row, "trainable_params"), cost(row, "params")
        text += f", training {trained} of {whole} parameters"
        text += f" in {cost(row, 'seconds')}" if "seconds" in row.costs else ""
    return text + "."
