"""Matplotlib figures as inline SVG that takes its colours and its font from the page.

Every colour below is a stand-in that becomes a CSS variable (with the colour itself as fallback),
so that one drawing serves light, dark and paper; text stays text.
"""

from __future__ import annotations

import base64
import io
import itertools
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

from ttl_jax.report.template import told_controls

INK, MUTED, GRID, PAPER, ON_DEEP = "#1b1f24", "#5f6b7a", "#dfe3e8", "#fefefe", "#fffffe"
# Okabe and Ito's, for eyes that tell few hues apart, deepened to stand on white
SERIES = (
    "#0b6aa8", "#c8540a", "#00805f", "#a34e85", "#8a6d00", "#4a5561", "#6b4fb3", "#7a4a21",
)  # fmt: skip
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", PAPER: "paper", ON_DEEP: "on-deep"}
_VARIABLES |= {colour: f"c{place}" for place, colour in enumerate(SERIES)}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ttl_jax",
    "text.parse_math": False,  # a $ in a class name is a $
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
    "legend.frameon": True,
    "legend.facecolor": PAPER,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fontsize": 8.5,
    "path.simplify_threshold": 0.3,
}
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Drawn:
    """A figure of a page: the SVG element, and how it is read."""

    svg: str
    caption: str


class Drawing:
    """A figure in the making; `.svg` is there once the `with` block is left."""

    def __init__(self, figure: Any) -> None:
        self.figure = figure
        self.svg = ""


@contextmanager
def drawing(width: float, height: float, title: str) -> Iterator[Drawing]:
    """Draws a figure of so many inches; `title` is what a screen reader says of it."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # scripts that Matplotlib's own font lacks are drawn by the browser's
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        made = Drawing(Figure(figsize=(width, height), layout="constrained"))
        yield made
        file = io.StringIO()
        blank: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        made.figure.savefig(file, format="svg", metadata=blank)
    made.svg = inline(file.getvalue(), title)


@contextmanager
def panels(count: int, height: float, title: str, label: str) -> Iterator[tuple[Drawing, Sequence[Any]]]:
    """Draws so many panels, three a row, each row so many inches high; `label` is of their y axes."""
    columns = min(count, 3)
    rows = -(-count // columns)
    size = (5.4, height + 0.2) if columns == 1 else (11.4, height * rows)
    with drawing(*size, title) as made:
        every = made.figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
        for axes in every[count:]:
            axes.set_visible(False)
        for axes in every[::columns]:
            axes.set_ylabel(label)
        yield made, every[:count]


def as_file(svg: str) -> str:
    """A figure of a page as a file of its own, of its size and with its colours on white."""
    plain = re.sub(r"var\(--[\w-]+, (#\w+)\)", r"\1", svg)
    wide, high = (float(side) * 4 / 3 for side in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', plain)[0])
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:.0f}" height="{high:.0f}" '
    return plain.replace("<svg ", opening, 1).replace('style="', 'style="background: #ffffff; ', 1)


def as_image(text: str, title: str) -> str:
    """An <img> of an SVG file that others may have written: nothing in it runs or is fetched."""
    data = base64.b64encode(text.encode()).decode("ascii")
    return f'<img class="drawn" src="data:image/svg+xml;base64,{data}" alt="{escape(title)}">'


def inline(text: str, title: str) -> str:
    """The <svg> element alone, with ids of its own, CSS colours and no namespaces.

    Args:
        text: an SVG file as Matplotlib writes it.
        title: text that a screen reader says in the figure's place.
    """
    prefix = f"f{next(_numbers)}-"
    text = told_controls(text[text.index("<svg") :])
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = text.replace("xlink:href=", "href=")
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r"url\(#", f"url(#{prefix}", text)
    text = re.sub(r'href="#', f'href="#{prefix}', text)
    for colour, name in _VARIABLES.items():
        text = text.replace(colour, f"var(--{name}, {colour})")
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    # a hundredth of a point is finer than any screen
    text = re.sub(r' (d|x|y|transform)="[^"]*"', lambda each: re.sub(r"(\.\d\d)\d+", r"\1", each[0]), text)
    size = re.search(r'viewBox="0 0 ([\d.]+) ', text)
    wide = float(size.group(1)) if size else 0.0
    # points of paper become pixels, a third larger, and shrink with a narrow window
    opening = f'<svg role="img" aria-label="{escape(title)}" style="width: {wide * 4 / 3:.0f}px"'
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg", opening, 1)
