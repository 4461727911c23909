"""StochNorm (Kou et al. 2020): each channel of a norm takes the batch's or the running statistics."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from ttl_jax.errors import UserError
from ttl_jax.models.layers.stochastic_norm import stochastic_norm
from ttl_jax.strategies.parts.part import Draw, Part


@dataclass(frozen=True)
class StochNorm(Part):
    """Phase.bn = "stochastic(p)".

    Attributes:
        p: probability that a channel is normalised by its batch.
    """

    p: float

    slot = "the statistics of norms"
    needs_values = False

    def forward(self, draw: Draw) -> AbstractContextManager[Any]:
        return stochastic_norm(self.p, draw())


def stochastic(bn: str | None, phase: str | None) -> tuple[StochNorm, ...]:
    """The part that a phase's `bn` stands for; none for the other policies.

    Raises:
        UserError: a p that is not a number between 0 and 1.
    """
    match = re.fullmatch(r"stochastic\((.*)\)", bn or "")
    if match is None:
        return ()
    try:
        share = float(match[1])
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UserError(f"phase {phase!r}: bn={bn!r}: p must be a number from 0 to 1")
    return (StochNorm(share),)
