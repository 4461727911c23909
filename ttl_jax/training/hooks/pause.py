"""Pausing a run at a share of its steps: how a search gives a trial as much training as it is worth."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from ttl_jax.training.hooks.checkpoint import saved
from ttl_jax.training.loop_state import LoopState
from ttl_jax.training.trainer import Hook, Trainer


class Paused(Exception):
    """The run has reached the step where it was asked to pause; the same run goes on from there.

    Attributes:
        ending: takes over what ends the run, where the hook was given one.
    """

    def __init__(self, step: int, ending: ExitStack | None = None) -> None:
        super().__init__(f"paused at step {step}")
        self.ending = ending


@dataclass
class Pause(Hook):
    """Pauses a run at the first validation from a share of its steps on.

    Attributes:
        after: share of all steps.
        go_on: asked there, once the validation is in metrics.jsonl: returns the share after which to pause
            next, and the run goes on at once; None pauses it.
        ending: takes over what ends a paused run, which may go on while another begins: its state is
            written, then its folder let go. Without it `Paused` is raised once that is done.
    """

    after: float = math.inf
    go_on: Callable[[], float | None] = lambda: None
    ending: ExitStack | None = None

    def on_step(self, trainer: Trainer, now: LoopState) -> LoopState:
        """Saves, and asks whether to go on.

        Raises:
            Paused: not now.
        """
        reached = now.evaluate and now.progress.step >= self.after * sum(trainer.lengths)
        if not reached or now.last or now.ended:
            return now
        now = saved(trainer, now)
        further = self.go_on()
        if further is None:
            raise Paused(now.progress.step, self.ending)
        self.after = further
        return now
