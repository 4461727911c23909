"""Length of each phase in steps, and the learning rate at each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import jax
import numpy as np
import optax

from ttl_jax.config.run import ScheduleConfig
from ttl_jax.errors import UserError
from ttl_jax.strategies import Phase
from ttl_jax.typing import Float


def phase_lengths(phases: Sequence[Phase], total_steps: int, steps_per_epoch: float) -> list[int]:
    """Divides a step budget among phases.

    "steps:N" and "epochs:N" are taken first; what is left is shared in proportion to "share:W".

    Raises:
        UserError: an `until` that cannot be read, or a phase that would get no step.
    """
    fixed: dict[int, int] = {}
    shares: dict[int, float] = {}
    for number, phase in enumerate(phases):
        kind, _, amount = (phase.until or "share:1").partition(":")
        try:
            value = float(amount)
        except ValueError:
            value = 0.0
        if kind not in ("share", "epochs", "steps") or not value > 0:
            raise UserError(
                f"phase {phase.name!r}: until={phase.until!r} is not share:W, epochs:N or steps:N"
            )
        if kind == "share":
            shares[number] = value
        else:
            fixed[number] = round(value * (steps_per_epoch if kind == "epochs" else 1))
    left, weight = total_steps - sum(fixed.values()), sum(shares.values())
    lengths, given, cumulative = [], 0, 0.0
    for number in range(len(phases)):
        if number in fixed:
            lengths.append(fixed[number])
            continue
        cumulative += shares[number] / weight  # rounding the running sum loses no step
        lengths.append(round(left * cumulative) - given)
        given += lengths[-1]
    if min(lengths) < 1:
        short = phases[int(np.argmin(lengths))].name
        raise UserError(
            f"the budget of {total_steps} steps leaves none for phase {short!r} "
            f"of {len(phases)}; raise total_epochs or total_steps"
        )
    return lengths


def peak_rate(phase: Phase, lr: float) -> float:
    """The learning rate at the top of a phase's schedule, in a run whose optimizer.lr is `lr`."""
    return (lr if phase.base_lr is None else phase.base_lr) * (1.0 if phase.lr is None else phase.lr)


def learning_rates(config: ScheduleConfig, peak: float, steps: int) -> Float[np.ndarray, " steps"]:
    """The rate at each step of a phase: optax's schedule, evaluated once for all steps.

    Args:
        config: the `schedule` part of a run's config.
        peak: the rate at the top.
        steps: the phase's length.
    """
    return np.float32(peak) * _curve(config.name, round(config.warmup * steps), config.final, steps)


@lru_cache(maxsize=256)
def _curve(name: str, warmup: int, final: float, steps: int) -> Float[np.ndarray, " steps"]:
    """The rates for a peak of 1: each schedule is proportional to its peak, and a sweep has many peaks."""
    if name == "cosine":
        body = optax.cosine_decay_schedule(1.0, max(steps - warmup, 1), alpha=final)
    else:
        body = optax.constant_schedule(1.0)
    # The rise ends on the peak, and its first step is not zero: a zero step would be wasted.
    rise = optax.linear_schedule(1 / (warmup + 1), 1.0, warmup)
    joined = optax.join_schedules([rise, body], [warmup]) if warmup else body
    rates = jax.jit(jax.vmap(joined))(np.arange(steps)) if steps else np.zeros(0)  # one program, not ten
    return np.broadcast_to(np.asarray(rates, np.float32), (steps,))


@dataclass(frozen=True)
class Plateau:
    """State of reduce-on-plateau, as torch's ReduceLROnPlateau (mode min, relative threshold 1e-4)."""

    scale: float = 1.0
    best: float = float("inf")
    bad: int = 0

    def update(self, loss: float, factor: float, patience: int) -> Plateau:
        """Returns the state after one more validation loss; `scale` multiplies the rate."""
        if loss < self.best * (1 - 1e-4):
            return replace(self, best=loss, bad=0)
        if self.bad + 1 > patience:
            return Plateau(self.scale * factor, self.best, 0)
        return replace(self, bad=self.bad + 1)
