"""Progress of a run: a few numbers, saved beside the state as JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ttl_jax.errors import UserError
from ttl_jax.evaluation.registry import Merit
from ttl_jax.training.schedule import Plateau


@dataclass(frozen=True)
class Progress:
    """The progress of a run; saved beside the state as JSON."""

    step: int = 0
    phase: int = 0
    phase_start: int = 0
    digest: str = ""
    best: Merit | None = None  # of the weights to keep; None where they are looked for anew
    best_step: int = 0
    best_phase: int | None = None
    peak: Merit | None = None  # the best of this phase
    bad: int = 0  # validations since then
    plateau: Plateau = field(default_factory=Plateau)
    seconds: float = 0.0
    flops_per_step: tuple[float, ...] = ()
    finished: bool = False
    due: bool = False  # the validation at this step is still to be done: the run was stopped within it
    skipped: int = 0  # steps whose loss or gradient was no number and that changed nothing
    made_from: str = ""  # digest of the run's manifest
    together: int = 1  # runs that were trained as one program; `seconds` is this one's share

    def scored(self, now: Merit) -> Progress:
        """After a validation.

        Of equal merits the later is kept, and counts as `bad` all the same: nothing was gained.
        """
        scored = replace(self, bad=self.bad + 1)
        if self.peak is None or now > self.peak:
            scored = replace(self, peak=now, bad=0)
        if self.best is None or now >= self.best:
            scored = replace(scored, best=now, best_step=self.step, best_phase=self.phase)
        return scored

    def next_phase(self, digest: str, select_phase: str) -> Progress:
        """At the start of the next phase, of these labels; with "last" its own best alone may be kept."""
        return replace(
            self,
            phase=self.phase + 1,
            phase_start=self.step,
            digest=digest,
            best=None if select_phase == "last" else self.best,
            peak=None,
            bad=0,
            plateau=Plateau(),
        )

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Progress:
        """Reads what `dataclasses.asdict` wrote.

        Raises:
            UserError: a newer version wrote it.
        """
        if newer := sorted(saved.keys() - {item.name for item in fields(cls)}):
            raise UserError(
                f"the checkpoint was saved by a newer version of ttl_jax ({newer[0]!r} is not known here): "
                "go on with that version, or start the run again with --fresh"
            )
        if "peak" not in saved:  # by the version before, which kept a figure alone, the best of all phases
            best = None if saved["best"] is None else (saved["best"], -math.inf)
            phase = saved["phase"] if saved["best_step"] > saved["phase_start"] else None
            saved = {**saved, "best": best, "peak": best, "best_phase": phase}
        merits = {name: Merit(*saved[name]) for name in ("best", "peak") if saved[name] is not None}
        values = {**saved, **merits, "plateau": Plateau(**saved["plateau"])}
        return cls(**{**values, "flops_per_step": tuple(saved["flops_per_step"])})


def crosses(step: int, every: float) -> bool:
    """Return whether a multiple of `every` lies in the step that ends at `step`."""
    return math.floor(step / every + 1e-9) > math.floor((step - 1) / every + 1e-9)
