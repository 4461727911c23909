"""The state of the training loop that the hooks read and change."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ttl_jax.training.frozen.phase_data import PhaseData
from ttl_jax.training.progress import Progress
from ttl_jax.training.state import TrainState
from ttl_jax.typing import Variables

# The last step of a call, the figures of its steps, and of each step the positions of its examples.
Dispatched = tuple[int, dict[str, Any], list[Any]]


@dataclass(frozen=True)
class LoopState:
    """The loop after a call of the step: hooks read it, and return it changed.

    Attributes:
        state: the phase's training state, placed on its devices.
        progress: step, phase, best validation: what is saved beside the state.
        data: the phase's data.
        stop: the step at which the phase ends.
        top_rate: learning rate at the top of the phase's schedule.
        rate: learning rate of the last step.
        dispatched: calls of the step whose figures nobody has looked at.
        evaluate: a validation is due.
        log: a line about the step is due.
        save: the state is due to be saved, whatever else happens.
        leave: the process was asked to stop.
        figures: "loss", "gradient_norm", ... of the newest finite step; None where no hook fetched them.
        speed: images a second since the look before.
        scores: validation scores, where this step was validated.
        validated: the variables that the validation saw.
        statistics: BatchNorm statistics of `validated`, where they were estimated for it.
        saved: the state of this step is on its way to disk.
        ended: the phase ends here.
    """

    state: TrainState
    progress: Progress
    data: PhaseData
    stop: int
    top_rate: float = 0.0
    rate: float = 0.0
    dispatched: tuple[Dispatched, ...] = ()
    evaluate: bool = False
    log: bool = False
    save: bool = False
    leave: bool = False
    figures: Mapping[str, float] | None = None
    speed: float = 0.0
    scores: Mapping[str, Any] | None = None
    validated: Variables | None = None
    statistics: Any = None
    saved: bool = False
    ended: bool = False
    # Clocks: of the last lap, of the last save, and the step of the last look.
    lap_at: float = field(default_factory=time.perf_counter)
    saved_at: float = field(default_factory=time.perf_counter)
    looked_at: int = 0

    @property
    def last(self) -> bool:
        """Return whether the step is the phase's last."""
        return self.progress.step == self.stop

    def lap(self) -> LoopState:
        """Adds the seconds since the lap before to the progress."""
        now = time.perf_counter()
        seconds = self.progress.seconds + now - self.lap_at
        return replace(self, lap_at=now, progress=replace(self.progress, seconds=seconds))
