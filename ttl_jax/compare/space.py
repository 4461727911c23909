"""Search spaces of a setting: the learning rate, and the strengths that its strategy leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ttl_jax import strategies

if TYPE_CHECKING:
    from ttl_jax.compare.config import CompareConfig


class Hyperparameters(NamedTuple):
    """The values that one trial sets.

    Attributes:
        lr: optimizer.lr.
        options: (("key.option", value), ...) of the strategy, in the space's order; the others keep what
            the strategy's text says.
    """

    lr: float
    options: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        return ", ".join((f"lr {self.lr:g}", *(f"{name} {value:g}" for name, value in self.options)))


@dataclass(frozen=True)
class Space:
    """Learning rates between two bounds, in the logarithm, times a list of values for each option.

    Attributes:
        low, high: bounds of the learning rate.
        grids: (("key.option", values), ...).
    """

    low: float
    high: float
    grids: tuple[tuple[str, tuple[float, ...]], ...] = ()

    def at(self, share: float, places: Sequence[int]) -> Hyperparameters:
        """The point at a share, 0 to 1, of the way from low to high, and at these places of the grids."""
        options = tuple(
            (name, values[place]) for (name, values), place in zip(self.grids, places, strict=True)
        )
        return Hyperparameters(rounded(self.low * (self.high / self.low) ** share), options)


def rounded(rate: float) -> float:
    """To three digits: folders are named by the rate, and more would mean nothing."""
    return float(f"{rate:.3g}")


def space(config: CompareConfig, strategy: str) -> Space:
    """The space of a strategy: `compare.lr_range` times what of `compare.grids` its text leaves open.

    With equal operations (`compare.budget`) nothing is open that would change how many there are.
    """
    section = config.compare
    open_values = strategies.open_strengths(strategy, section.grids)
    fixed = strategies.LENGTHS if section.budget == "flops" else ()
    low, high = section.lr_range
    return Space(low, high, tuple(item for item in open_values.items() if item[0] not in fixed))
