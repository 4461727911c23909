"""The lines of metrics.jsonl."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def read_events(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each line and its event; what a kill cut short, or is none of ours, is passed over."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and isinstance(event.get("step"), int):
            yield line, event


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
