"""The figures of decisions: reliability before and after scaling, and net benefit."""

from __future__ import annotations

from typing import Any

import numpy as np

from ttl_jax.evaluation.calibration import Calibration, calibration
from ttl_jax.evaluation.predictions import Predictions, questions
from ttl_jax.evaluation.thresholds import decision_curve
from ttl_jax.report.svg import MUTED, SERIES, drawing, panels

MAX_CURVES = 6  # classes with a panel of net benefit


def reliability(predictions: Predictions, scaled: Predictions | None = None) -> str | None:
    """Accuracy against confidence in 15 bins, over how many decisions each bin holds.

    With `scaled`, the same after temperature scaling in a second panel.
    """
    panes = [calibration(each.labels, each.logits, each.task) for each in (predictions, scaled) if each]
    if panes[0].ece is None:
        return None
    said = " and ".join(f"{each.ece:.3f}" for each in panes)
    with drawing(5.2 * len(panes), 4.6, f"Reliability diagram, expected calibration error {said}") as made:
        panels = made.figure.subplots(
            2, len(panes), sharex=True, sharey="row", height_ratios=(3, 1), squeeze=False
        )
        for place, each in enumerate(panes):
            _panel(panels[0, place], panels[1, place], each, SERIES[0 if place == 0 else 2])
            if len(panes) == 2:
                panels[0, place].set_title("after temperature scaling" if place else "as trained")
        panels[0, 0].set(ylabel="accuracy")
        panels[1, 0].set(ylabel="count")
    return made.svg


def _panel(upper: Any, lower: Any, calibration: Calibration, colour: str) -> None:
    middles, width = (calibration.edges[1:] + calibration.edges[:-1]) / 2, calibration.edges[1] * 0.94
    upper.bar(middles, np.nan_to_num(calibration.accuracy), width=width, color=colour, alpha=0.35)
    upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--", label="calibrated")
    full = calibration.count > 0
    upper.plot(calibration.confidence[full], calibration.accuracy[full], "o-", color=colour, markersize=4,
               label=f"this model, ECE {calibration.ece:.3f}")  # fmt: skip
    upper.set(ylim=(0, 1.02), xlim=(0, 1))
    upper.legend(loc="upper left")
    lower.bar(middles, calibration.count, width=width, color=MUTED, alpha=0.6)
    lower.set(xlabel="confidence of the decision")


def net_benefit(predictions: Predictions, temperature: float | None = None) -> str | None:
    """Decision curves, a panel a class of those with most examples; None if none has both answers.

    Drawn for the probabilities as trained and, with a temperature, for the scaled ones.
    """
    asked = [each for each in questions(predictions) if 0 < each.truth.sum() < len(each.truth)]
    asked = sorted(asked, key=lambda each: -each.truth.sum())[:MAX_CURVES]
    if not asked:
        return None
    after = {each.name: each for each in questions(predictions, temperature or 1.0)}
    title = "Decision curves: net benefit against threshold probability"
    with panels(len(asked), 3.4, title, "net benefit a patient") as (made, places):
        for axes, each in zip(places, asked, strict=True):
            curve = decision_curve(each.truth, each.chances)
            top = max(float(each.truth.mean()), 0.01)
            axes.axhline(0, color=MUTED, linewidth=1, label="nobody")
            shown = curve.treat_all > -0.35 * top
            axes.plot(curve.thresholds[shown], curve.treat_all[shown], color=MUTED, linestyle="--",
                      linewidth=1.2, label="everybody")  # fmt: skip
            axes.plot(curve.thresholds, curve.model, color=SERIES[0], linewidth=1.5, label="as trained")
            if temperature is not None:
                scaled = decision_curve(each.truth, after[each.name].chances)
                axes.plot(scaled.thresholds, scaled.model, color=SERIES[2], linewidth=1.5,
                          linestyle="-.", label="temperature-scaled")  # fmt: skip
            axes.set(xlim=(0, 1), ylim=(-0.35 * top, 1.1 * top), title=each.name,
                     xlabel="threshold probability")  # fmt: skip
        places[0].legend(loc="upper right")
    return made.svg
