"""Histograms of probabilities on another data set, over those of validation."""

from __future__ import annotations

import numpy as np

from ttl_jax.report.read import Run, look_up
from ttl_jax.report.svg import MUTED, SERIES, panels

MAX_PANELS = 6  # classes, the most frequent ones


def histograms(run: Run) -> str | None:
    """A panel a class: shares of images by its probability, here and on validation; None of a training."""
    by_shift = look_up(run.result, "external", "histograms")
    if not by_shift:
        return None
    names = list(by_shift)[:MAX_PANELS]
    title = "Histograms of probabilities, here and on validation"
    with panels(len(names), 3.0, title, "share of the images") as (made, places):
        for axes, name in zip(places, names, strict=True):
            counts = {key: np.asarray(by_shift[name][key], float) for key in ("validation", "here")}
            edges = np.linspace(0, 1, len(counts["here"]) + 1)
            for key, colour, fill in (("validation", MUTED, True), ("here", SERIES[0], False)):
                share = counts[key] / max(counts[key].sum(), 1)
                axes.stairs(share, edges, color=colour, fill=fill, alpha=0.45 if fill else 1,
                            linewidth=1.5, label=key)  # fmt: skip
            axes.set(xlim=(0, 1), title=name, xlabel="probability")
        places[0].legend()
    return made.svg
