"""The page and the figure of an explanation, from explain.json and the pictures beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from ttl_jax.report.svg import MUTED, SERIES, drawing
from ttl_jax.report.template import fill, write_page
from ttl_jax.system.json_object import read_object

SHOWN = 24  # images on the page and in the figure; the others are files beside it
ALIKE = 0.5  # rank correlation from which a map is said not to hang on the weights
SAME = 0.99
PIXELS = 200  # the longer side of a picture on the page
FEW = 5  # images: of fewer no test can tell anything from chance
NOTE = "Such a map shows where, not why, and is no proof that the reason is sound. Research use only."


@dataclass(frozen=True)
class Judged:
    """Verdict of the checks on a method with a run.

    Attributes:
        run, method: their names.
        row: of the table, as text.
        remarks: a sentence for each check that the maps do not pass.
    """

    run: str
    method: str
    row: dict[str, str]
    remarks: tuple[str, ...]


def read(folder: Path) -> dict[str, Any]:
    """The content of FOLDER/explain.json."""
    explained: dict[str, Any] = read_object(folder / "explain.json")
    return explained


def judge(explained: Mapping[str, Any]) -> list[Judged]:
    """Every run and method of an explanation, in order.

    A method passes a check if more than half of the images do better than chance: binomial, one-sided, 5 %.
    """
    return [
        _judge(explained, run, method)
        for run, about in explained["runs"].items()
        for method in about["units"]
    ]


def _judge(explained: Mapping[str, Any], run: str, method: str) -> Judged:
    about = explained["runs"][run]
    row = {"run": run, "method": method, "unit": about["units"][method] or "the image"}
    said: list[str] = []
    check = about["checks"].get(method)
    if check:
        for name in ("deletion", "insertion"):
            value = check[name]
            row[name] = f"{value['area']:.3f} (random {value['at_random']:.3f})"
            if not _beats_chance(value["better"], check["images"]):
                said.append(
                    f"{name} in its order is no better than in a random one ({value['better']} of "
                    f"{check['images']} images)"
                )
        first, last = (check["randomised"][place]["rank_correlation"] for place in (0, -1))
        row["random weights"] = f"{last:.2f}"
        if last > ALIKE:
            said.append(f"the map is much the same with random weights (rank correlation {last:.2f})")
        if first > SAME:
            said.append("the map is the same with a random head: it knows no class")
    inside = [held["inside"][method] for held in _held(explained, run) if "inside" in held]
    if inside:
        area = np.array([each["area"] for each in inside])
        energy = np.array([each["energy"] or 0.0 for each in inside])  # an empty map has none
        hits, more = sum(each["hit"] for each in inside), int((energy > area).sum())
        row["energy in mask"] = f"{energy.mean():.3f} (area {area.mean():.3f})"
        row["peak in mask"] = f"{hits} of {len(inside)} (area {area.mean():.3f})"
        if not _beats_chance(more, len(inside)):
            said.append(
                f"no more of the map lies in the mask than the mask's area ({more} of {len(inside)} images)"
            )
    return Judged(run, method, row, tuple(f"{run}, {method}: {sentence}" for sentence in said))


def _beats_chance(count: int, total: int) -> bool:
    """Return whether more than half of the images do better; of few images nothing is said."""
    return total < FEW or bool(binomtest(count, total, 0.5, alternative="greater").pvalue < 0.05)


def _held(explained: Mapping[str, Any], run: str) -> list[dict[str, Any]]:
    return [line["runs"][run] for line in explained["images"]]


def picture(run: str, line: Mapping[str, Any], method: str | None = None) -> str:
    """The relative path of an image's picture, plain or under its map."""
    return f"{run}/{line['file']}{f'.{file_word(method)}' if method else ''}.png"


def file_word(method: str) -> str:
    """The word in the names of files that stands for a method, also for FILE.py:NAME."""
    return method.rpartition(":")[2]


def caption(held: Mapping[str, Any]) -> str:
    """The class that a map is about and its probability, and the decision where that is another."""
    other = f", decided {held['decision']}" if held.get("decision", held["class"]) != held["class"] else ""
    return f"{held['class']} {held['probability']:.2f}{other}"


def draw(folder: Path) -> Path:
    """Draw FOLDER/figure.png: a row for each image, a column for each run and method."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    explained = read(folder)
    judged, lines = judge(explained), explained["images"][:SHOWN]
    first, side = judged[0].run, 1.7
    size = (side * (1 + len(judged)), (side + 0.2) * len(lines) + 0.3)
    with matplotlib.rc_context({"font.size": 7, "text.parse_math": False}):
        figure = Figure(figsize=size, layout="constrained", dpi=150)
        axes = figure.subplots(len(lines), 1 + len(judged), squeeze=False)
        for line, row in zip(lines, axes, strict=True):
            shown = [(picture(first, line), line["id"].rpartition("/")[2][-28:])]
            shown += [
                (picture(each.run, line, each.method), caption(line["runs"][each.run])) for each in judged
            ]
            for place, (path, words) in zip(row, shown, strict=True):
                place.imshow(imread(folder / path))
                place.set_xlabel(words, labelpad=2)
                place.set_xticks([])
                place.set_yticks([])
        for place, each in zip(axes[0][1:], judged, strict=True):
            place.set_title(_title(explained, each))
        figure.savefig(folder / "figure.png")
    return folder / "figure.png"


def _title(explained: Mapping[str, Any], each: Judged) -> str:
    """The run, the method where there are several, each where it tells columns apart."""
    several = len(explained["runs"]) > 1, len(explained["runs"][each.run]["units"]) > 1
    names = [name for name, tells in zip((each.run, each.method), several, strict=True) if tells]
    return "\n".join(names) or each.method


def write(folder: Path) -> Path:
    """Write FOLDER/index.html, one file with all that it shows."""
    explained = read(folder)
    judged = judge(explained)
    lines = [
        {
            "id": line["id"],
            "plain": _address(folder / picture(judged[0].run, line)),
            "maps": [
                (_address(folder / picture(each.run, line, each.method)), caption(line["runs"][each.run]))
                for each in judged
            ],
        }
        for line in explained["images"][:SHOWN]
    ]
    checked = [each for each in judged if explained["runs"][each.run]["checks"]]
    page = fill(
        "page_explanation.html",
        title="Where it looked",
        explained=explained,
        judged=judged,
        titles=[_title(explained, each).split("\n") for each in judged],
        columns=list(dict.fromkeys(name for each in judged for name in each.row)),
        lines=lines,
        figures=[
            (_figure(explained["runs"][each.run]["checks"][each.method]), f"{each.run}, {each.method}")
            for each in checked
        ],
        remarks=[sentence for each in judged for sentence in each.remarks],
        note=NOTE,
    )
    return write_page(folder / "index.html", page)


def _figure(check: Mapping[str, Any]) -> str:
    """Deletion and insertion beside a random order, and the cascade of random weights, as SVG."""
    with drawing(7.6, 2.3, "Deletion, insertion, random weights") as made:
        left, middle, right = made.figure.subplots(1, 3)
        for axes, name in ((left, "deletion"), (middle, "insertion")):
            curve = np.asarray(check[name]["curve"])
            share = np.linspace(0, 1, len(curve))
            axes.plot(share, curve, color=SERIES[0], label="the map's order")
            axes.plot(share, check[name]["curve_at_random"], color=MUTED, label="a random one", ls="--")
            axes.set(title=name, xlabel="share of the pixels", ylim=(0, 1))
        left.set_ylabel("probability of the class")
        left.legend()
        steps: Sequence[Mapping[str, Any]] = check["randomised"]
        right.plot([each["rank_correlation"] for each in steps], color=SERIES[1], marker="o", ms=3)
        right.set_xticks(range(len(steps)), [each["down_to"] for each in steps], rotation=60, ha="right")
        right.tick_params(axis="x", labelsize=6)
        right.set(title="random weights down to", ylabel="rank correlation")
        right.set(ylim=(min(0, right.get_ylim()[0]), 1.05))
    return made.svg


def _address(path: Path) -> str:
    """A picture within the page: smaller, and a JPEG."""
    from PIL import Image

    picture, file = Image.open(path).convert("RGB"), io.BytesIO()
    picture.thumbnail((PIXELS, PIXELS))
    picture.save(file, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
