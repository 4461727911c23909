"""The comparison's table as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from dataclasses import astuple, fields
from pathlib import Path

from ttl_jax.report import wording
from ttl_jax.report.compared import Found, Line, lines, p_value, points, varying_length

_SPECIAL = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def write_tables(found: Found, folder: Path) -> list[Path]:
    """Writes compare.csv (all figures, unrounded), compare.md and compare.tex; returns their paths."""
    rows = lines(found)
    reference = found["statistics"]["reference"]
    texts = {"csv": as_csv(rows), "md": as_markdown(rows, reference), "tex": as_latex(rows, reference)}
    paths = []
    for ending, text in texts.items():
        path = folder / f"compare.{ending}"
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def as_csv(rows: tuple[Line, ...]) -> str:
    """One column a field of `Line`; empty where nothing is known."""
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow([field.name for field in fields(Line)])
    table.writerows([["" if value is None else value for value in astuple(row)] for row in rows])
    return file.getvalue()


def as_markdown(rows: tuple[Line, ...], reference: str) -> str:
    """A pipe table."""
    head, body = _cells(rows, reference)
    table = [head, ["---"] * 3 + ["---:"] * (len(head) - 3), *body]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in table)


def as_latex(rows: tuple[Line, ...], reference: str) -> str:
    """A booktabs tabular."""
    head, body = _cells(rows, reference)
    columns = "lll" + "r" * (len(head) - 3)

    def line(row: list[str]) -> str:
        return " & ".join(_escape(cell) for cell in row) + r" \\" + "\n"

    inside = line(head) + "\\midrule\n" + "".join(line(row) for row in body)
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{inside}\\bottomrule\n\\end{{tabular}}\n"


def _escape(text: str) -> str:
    text = "".join(_SPECIAL[character] if character in _SPECIAL else character for character in text)
    for character, written in (("−", "$-$"), ("–", "--"), ("<", "$<$"), (">", "$>$"), ("|", "$|$")):
        text = text.replace(character, written)  # text fonts have other letters in their places
    return text


def _cells(rows: tuple[Line, ...], reference: str) -> tuple[list[str], list[list[str]]]:
    longer = ["length"] if varying_length(rows) else []
    tuned = ["strengths"] if any(row.strengths for row in rows) else []
    head = ["data set", "model", "strategy", "AUROC [95 %]", f"vs {reference}, points [95 %]", "p (Holm)",
            "ms an image", "MB", "FLOPs an image", "AUPRC [95 %] (prevalence)", "accuracy [95 %]",
            "ECE [95 %]", "rate", *tuned, *longer, "training time", "training FLOPs",
            "trainable"]  # fmt: skip
    body = []
    for row in rows:
        against = "" if row.d_low is None else f" [{points(row.d_low)}, {points(row.d_high)}]"
        share = "" if row.prevalence is None else f" ({wording.number(row.prevalence)})"
        body.append([
            row.dataset, row.model, row.strategy, _spread(row.auroc, row.low, row.high),
            points(row.difference) + against, p_value(row.p),
            wording.small(row.ms), wording.small(row.mb), wording.amount(row.flops_image),
            _spread(row.auprc, row.auprc_low, row.auprc_high) + share,
            _spread(row.accuracy, row.accuracy_low, row.accuracy_high),
            _spread(row.ece, row.ece_low, row.ece_high),
            wording.ABSENT if row.lr is None else f"{row.lr:g}" + "*" * row.edge,
            *([row.strengths or wording.ABSENT] if tuned else []),
            *([f"{row.length:.3g}"] if longer else []),
            wording.duration(row.seconds), wording.amount(row.flops), wording.amount(row.trainable),
        ])  # fmt: skip
    return head, body


def _spread(mean: float | None, low: float | None, high: float | None) -> str:
    text = wording.number(mean)
    return text if low is None else f"{text} [{wording.number(low)}, {wording.number(high)}]"
