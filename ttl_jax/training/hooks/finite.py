"""Losses and gradients that stopped being numbers: named, skipped, or the end of the run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from ttl_jax.data.pseudonyms import pseudonymous
from ttl_jax.training.loop_state import Dispatched, LoopState
from ttl_jax.training.trainer import Trainer

NAMED = 8  # examples of a bad batch in the message; all of them are in nonfinite.json


class DivergedError(RuntimeError):
    """The loss or the gradient stopped being a number."""


def check_finite(trainer: Trainer, now: LoopState) -> LoopState:
    """Waits for the device and looks at every loss since the last look, where something is due.

    Raises:
        DivergedError: naming the step and its examples, where more than `nan_skip` are not finite.
    """
    config, progress = trainer.config, now.progress
    unseen = progress.step - now.looked_at
    if not (now.evaluate or now.log or now.save or unseen >= config.nan_check_steps):
        return now
    newest, skipped = None, progress.skipped
    for step, values, examples in _one_by_one(now.dispatched):
        if all(map(math.isfinite, values.values())):
            newest = values
            continue
        skipped += 1
        _skip(trainer, step, values, examples, config.nan_skip - skipped)
    speed = unseen * config.data.batch_size / max(time.perf_counter() - now.lap_at, 1e-9)
    now = replace(now, progress=replace(progress, skipped=skipped), looked_at=progress.step)
    return replace(now.lap(), dispatched=(), figures=newest, speed=speed)


def _one_by_one(calls: tuple[Dispatched, ...]) -> Iterator[tuple[int, dict[str, float], Any]]:
    """Yields each step with its figures and the positions of its examples."""
    for last, measured, examples in calls:
        # Under pmap there is one row of figures a device, all the same.
        figures = {
            name: np.reshape(value, (-1, len(examples)))[0]
            for name, value in jax.device_get(measured).items()
        }
        for place, positions in enumerate(examples):
            values = {name: float(row[place]) for name, row in figures.items()}
            yield last - len(examples) + 1 + place, values, positions


def _skip(trainer: Trainer, step: int, values: dict[str, float], examples: Any, left: int) -> None:
    """Writes nonfinite.json, then prints the step that was skipped, or ends the run where none is left."""
    name = next(name for name, value in values.items() if not math.isfinite(value))
    what = f"{name.replace('_', ' ')} is {values[name]} at step {step}"
    names = pseudonymous(trainer.inputs.sets["train"].take(np.asarray(examples).reshape(-1))).ids.tolist()
    trainer.log.nonfinite(step, values, names)
    shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    folder = trainer.log.folder
    if left < 0:
        raise DivergedError(
            f"{what} (examples {shown}; all of them: {folder / 'nonfinite.json'}): training stopped, "
            f"the last good checkpoint stays under {folder / 'checkpoints'}; lower optimizer.lr, set "
            "optimizer.clip=1.0, or allow some such steps to change nothing with nan_skip"
        )
    print(f"{what}: skipped, {left} more may be (examples {shown})", flush=True)
