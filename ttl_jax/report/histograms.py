"""Histograms of probabilities on another data set, over those of validation."""

from __future__ import annotations

import numpy as np

from ttl_jax.report.read import Run, look_up
from ttl_jax.report.svg import MUTED, SERIES, drawing

MAX_PANELS = 6  # classes, the most frequent ones


def histograms(run: Run) -> str | None:
    """A panel a class: shares of images by its probability, here and on validation; None of a training."""
    by_shift = look_up(run.result, "external", "histograms")
    if not by_shift:
        return None
    names = list(by_shift)[:MAX_PANELS]
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    size = (5.4, 3.2) if columns == 1 else (11.4, 3.0 * rows)
    with drawing(*size, "Histograms of probabilities, here and on validation") as made:
        panels = made.figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
        for axes, name in zip(panels, names, strict=False):
            counts = {key: np.asarray(by_shift[name][key], float) for key in ("validation", "here")}
            edges = np.linspace(0, 1, len(counts["here"]) + 1)
            for key, colour, fill in (("validation", MUTED, True), ("here", SERIES[0], False)):
                share = counts[key] / max(counts[key].sum(), 1)
                axes.stairs(share, edges, color=colour, fill=fill, alpha=0.45 if fill else 1,
                            linewidth=1.5, label=key)  # fmt: skip
            axes.set(xlim=(0, 1), title=name, xlabel="probability")
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        for axes in panels[::columns]:
            axes.set_ylabel("share of the images")
        panels[0].legend()
    return made.svg
