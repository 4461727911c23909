"""Units: the ordered pieces that a network is made of, and at which it can be cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn


class Unit(NamedTuple):
    """One piece of a network, as users and strategies know it.

    Attributes:
        name: also the path of its parameters, as "stage3/block2".
        stage: the coarse part that it belongs to, as "stage3".
        index: 1-based, counted from the stem.
    """

    name: str
    stage: str
    index: int  # type: ignore[assignment]  # the contract's name hides tuple.index


@dataclass(frozen=True)
class Build:
    """A module to be: its class and fields, comparable and hashable, without a name yet."""

    kind: type[nn.Module]
    fields: tuple[tuple[str, Any], ...] = ()

    def __call__(self, name: str) -> nn.Module:
        return self.kind(name=name, **dict(self.fields))


def build(kind: type[nn.Module], **fields: Any) -> Build:
    """Notes a module and its fields for later."""
    return Build(kind, tuple(fields.items()))


@dataclass(frozen=True)
class UnitSpec:
    """A unit as data: its modules in order, each at its parameter path.

    Every module is called as module(x, moving=bool, keys=keys or None): `moving` says whether
    BatchNorms use and update batch statistics, and whether dropout is on.
    """

    name: str
    stage: str
    parts: tuple[tuple[str, Build], ...]


def unit(name: str, stage: str, kind: type[nn.Module], **fields: Any) -> UnitSpec:
    """A unit of one module at the path of the unit's name."""
    return UnitSpec(name, stage, ((name, build(kind, **fields)),))


class Block(NamedTuple):
    """The place of a residual block in its network.

    Attributes:
        number: 1-based, over all stages.
        name, stage: names of the block's unit and stage, as "stage3/block2" and "stage3".
        level: number of the stage, from 0.
        first: whether the block is the first of its stage.
        stride: 2 for the first block of every stage but the lowest.
    """

    number: int
    name: str
    stage: str
    level: int
    first: bool
    stride: int


def blocks(depths: Sequence[int]) -> Iterator[Block]:
    """The blocks of a residual network, bottom to top, from how many each stage has."""
    number = 0
    for level, depth in enumerate(depths):
        for place in range(1, depth + 1):
            number, stage = number + 1, f"stage{level + 1}"
            first = place == 1
            yield Block(number, f"{stage}/block{place}", stage, level, first, 2 if first and level else 1)


def narrow(width: int, number: int, slim_from: int | None, slim: int) -> int:
    """The width of block (or convolution) `number`: divided by `slim` from `slim_from` on."""
    return width // slim if slim_from is not None and number >= slim_from else width


@dataclass(frozen=True)
class Plan:
    """A whole backbone as data.

    Attributes:
        units: bottom to top.
        dropout: rate before the last linear layer of the architecture's own head.
        flat_size: values that a "flatten" head on an early cut is pooled down to, about; None = all.
        dimensions: number of spatial dimensions: 2 for images, 3 for volumes.
    """

    units: tuple[UnitSpec, ...]
    dropout: float = 0.0
    flat_size: int | None = None
    dimensions: int = 2
