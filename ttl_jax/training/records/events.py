"""The lines of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def train_event(
    step: int, per_epoch: float, phase: str | None, figures: Mapping[str, float], rate: float, speed: float
) -> dict[str, Any]:
    """Builds the event of a training step.

    Args:
        step: steps done, all phases together.
        per_epoch: steps of an epoch.
        phase: name of the phase.
        figures: the step's loss and what goes with it ("gradient_norm", "penalty").
        rate: learning rate.
        speed: images a second.
    """
    return {
        "step": step,
        "epoch": round(step / per_epoch, 4),
        "phase": phase,
        "loss": figures["loss"],
        **figures,
        "lr": rate,
        "img_per_s": round(speed, 2),
    }


def val_event(step: int, per_epoch: float, phase: str | None, scores: Mapping[str, Any]) -> dict[str, Any]:
    """Builds the event of a validation; arguments as for `train_event`, scores from `evaluation.score`."""
    kept = {name: value for name, value in scores.items() if name not in ("per_class", "confusion")}
    return {"split": "val", "step": step, "epoch": round(step / per_epoch, 4), "phase": phase, **kept}
