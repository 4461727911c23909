"""The comparison's table as CSV, Markdown and LaTeX."""

from __future__ import annotations

from pathlib import Path

from ttl_jax.report import wording
from ttl_jax.report.comparison.text import (
    Column,
    Line,
    Record,
    between,
    data_sets,
    lines,
    metrics_of,
    needing,
    p_value,
    pooled,
    varying_length,
)
from ttl_jax.system.csv_cell import csv_line

_SPECIAL = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def write_tables(comparison: Record, folder: Path) -> list[Path]:
    """Writes compare.csv (all figures, unrounded), compare.md and compare.tex; returns their paths."""
    texts = {"csv": as_csv(lines(comparison)), "md": as_markdown(comparison), "tex": as_latex(comparison)}
    paths = []
    for ending, text in texts.items():
        path = folder / f"compare.{ending}"
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def as_csv(rows: tuple[Line, ...]) -> str:
    """One column a field of `Line`, of its metrics several; empty where nothing is known."""
    cells = [_flat(row) for row in rows]
    names = list(cells[0]) if cells else []
    return "".join([csv_line(names), *(csv_line(row.get(name) for name in names) for row in cells)])


def _flat(row: Line) -> dict[str, object]:
    """The CSV's columns: NAME, NAME_low, NAME_high of each metric (of AUROC low, high), and its chance."""
    cells: dict[str, object] = {}
    for key, value in vars(row).items():
        if key != "metrics":
            cells[key] = value
            continue
        for each in row.metrics:
            name = each.metric.name
            prefix = "" if name == "auroc" else f"{name}_"
            cells |= {name: each.mean, f"{prefix}low": each.low, f"{prefix}high": each.high}
            cells |= {each.metric.chance: each.chance} if each.metric.chance else {}
    return cells


def as_markdown(comparison: Record) -> str:
    """Pipe tables: all settings, and the comparisons over data sets where there are any; then the data."""

    def table(head: list[str], body: list[list[str]]) -> str:
        rows = [head, ["---"] * 3 + ["---:"] * (len(head) - 3), *body]
        return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)

    told = "".join(f"- {each}\n" for each in data_sets(comparison))
    return "\n".join([table(*each) for each in _tables(comparison)] + [told] * bool(told))


def as_latex(comparison: Record) -> str:
    """The same as booktabs tabulars."""

    def line(row: list[str]) -> str:
        return " & ".join(_escape(cell) for cell in row) + r" \\" + "\n"

    def table(head: list[str], body: list[list[str]]) -> str:
        columns = "lll" + "r" * (len(head) - 3)
        inside = line(head) + "\\midrule\n" + "".join(line(row) for row in body)
        return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{inside}\\bottomrule\n\\end{{tabular}}\n"

    return "\n".join(table(*each) for each in _tables(comparison))


def _escape(text: str) -> str:
    text = "".join(_SPECIAL[character] if character in _SPECIAL else character for character in text)
    for character, written in (("−", "$-$"), ("–", "--"), ("<", "$<$"), (">", "$>$"), ("|", "$|$")):
        text = text.replace(character, written)  # text fonts have other letters in their places
    return text


def _tables(comparison: Record) -> list[tuple[list[str], list[list[str]]]]:
    """Head and rows of all settings, then of what is pooled."""
    over_sets = [
        [f"{each['sets']} data sets", each["model"], each["strategy"],
         between(each["estimate"], each["low"], each["high"]), p_value(each["p_holm"]),
         between(None, each["predicted_low"], each["predicted_high"])]
        for each in pooled(comparison)
    ]  # fmt: skip
    head = ["over", "model", "strategy", _against(comparison), "p (Holm)", "a new data set [95 %]"]
    return [_cells(comparison), *([(head, over_sets)] if over_sets else [])]


def _against(comparison: Record) -> str:
    metric = comparison["statistics"]["metric"]
    what = "" if metric == "auroc" else f"{wording.title(metric)} "
    return f"vs {comparison['statistics']['reference']}, {what}points [95 %]"


def _cells(comparison: Record) -> tuple[list[str], list[list[str]]]:
    rows = lines(comparison)
    longer = ["length"] if varying_length(rows) else []
    tuned = ["strengths"] if any(row.strengths for row in rows) else []
    first, *others = [
        f"{each.title} [95 %]" + (f" ({wording.title(each.chance)})" if each.chance else "")
        for each in metrics_of(comparison)
    ]
    head = ["data set", "model", "strategy", first, _against(comparison), "p (Holm)", needing(comparison),
            "ms an image", "MB", "FLOPs an image", *others, "rate", *tuned, *longer, "training time",
            "training FLOPs", "trainable"]  # fmt: skip
    body = []
    for row in rows:
        leading, *further = [_spread(each) for each in row.metrics]
        body.append([
            row.dataset, row.model, row.strategy, leading,
            between(row.difference, row.d_low, row.d_high),
            "cannot be told" if row.caveat else p_value(row.p), row.needed,
            wording.small(row.ms), wording.small(row.mb), wording.amount(row.flops_image),
            *further,
            wording.ABSENT if row.lr is None else f"{row.lr:g}" + "*" * row.edge,
            *([row.strengths or wording.ABSENT] if tuned else []),
            *([f"{row.length:.3g}"] if longer else []),
            wording.duration(row.seconds), wording.amount(row.flops), wording.amount(row.trainable),
        ])  # fmt: skip
    return head, body


def _spread(each: Column) -> str:
    text = wording.number(each.mean)
    text += "" if each.low is None else f" [{wording.number(each.low)}, {wording.number(each.high)}]"
    return text if each.chance is None else f"{text} ({wording.number(each.chance)})"
