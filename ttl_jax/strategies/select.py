"""Sets of parameters, said in units and stages: the left side of every label rule.

A selection is data: it prints, compares and composes with `|`, `&` and `~`. `K` stands for the
running number of a phase that is repeated for every stage (gradual unfreezing).
"""

from __future__ import annotations

from dataclasses import dataclass

from ttl_jax.errors import UserError
from ttl_jax.strategies.anatomy import Anatomy, Leaf

K = "k"
Bound = int | str


@dataclass(frozen=True)
class Where:
    """A set of leaves: an operation and its arguments (see `matches` for the meaning of each)."""

    operation: str
    arguments: tuple[Bound | Where, ...] = ()

    def __or__(self, other: Where) -> Where:
        return Where("or", (self, other))

    def __and__(self, other: Where) -> Where:
        return Where("and", (self, other))

    def __invert__(self) -> Where:
        return self.arguments[0] if self.operation == "not" else Where("not", (self,))  # type: ignore[return-value]

    def __str__(self) -> str:
        match self.operation, self.arguments:
            case ("or", (a, b)):
                return f"({a} or {b})"
            case ("and", (a, b)):
                return f"({a} and {b})"
            case ("not", (a,)):
                return f"not {a}"
            case (name, ()):
                return name
            case (name, arguments):
                return f"{name}({', '.join(map(str, arguments))})"


everything = Where("everything")
head = Where("head")
backbone = ~head
norms = Where("norms")
biases = Where("biases")
kernels = Where("kernels")


def units(first: Bound, last: Bound) -> Where:
    """The units from `first` to `last`, both named or counted from 1 at the stem, both included."""
    return Where("units", (first, last))


def stages(first: Bound, last: Bound) -> Where:
    """The stages from `first` to `last`, both named or counted from 1 (the stem), both included."""
    return Where("stages", (first, last))


def bottom_stages(count: Bound) -> Where:
    """The `count` stages nearest to the image."""
    return Where("bottom_stages", (count,))


def top_stages(count: Bound) -> Where:
    """The `count` stages nearest to the head, without the head."""
    return Where("top_stages", (count,))


def position(bound: Bound | Where, names: tuple[str, ...], what: str) -> int:
    """Turns a name or a 1-based number (negative: from the top) into a 1-based position.

    Raises:
        UserError: no such unit or stage.
    """
    if isinstance(bound, str):
        if bound not in names:
            raise UserError(f"{what} {bound!r} is not in this network; it has: {', '.join(names)}")
        return names.index(bound) + 1
    number = int(bound)  # type: ignore[arg-type]
    resolved = number if number >= 0 else len(names) + 1 + number
    if not 0 <= resolved <= len(names):
        raise UserError(f"{what} {number} does not exist: this network has {len(names)} {what}s")
    return resolved


def matches(where: Where, leaf: Leaf, anatomy: Anatomy) -> bool:
    """Says whether a leaf belongs to a selection."""
    arguments = where.arguments
    in_head = leaf.unit == anatomy.head
    match where.operation:
        case "everything":
            return True
        case "head":
            return in_head
        case "norms":
            return leaf.kind == "norm"
        case "biases":
            return leaf.kind == "bias"
        case "kernels":
            return leaf.kind == "kernel"
        case "units":
            low, high = (position(bound, anatomy.units, "unit") for bound in arguments)
            return low <= leaf.unit <= high
        case "stages":
            low, high = (position(bound, anatomy.stages, "stage") for bound in arguments)
            return low <= leaf.stage <= high
        case "bottom_stages":
            return leaf.stage <= position(arguments[0], anatomy.stages, "stage")
        case "top_stages":
            below = len(anatomy.stages) - position(arguments[0], anatomy.stages, "stage")
            return not in_head and leaf.stage > below
        case "or":
            return any(matches(part, leaf, anatomy) for part in arguments)  # type: ignore[arg-type]
        case "and":
            return all(matches(part, leaf, anatomy) for part in arguments)  # type: ignore[arg-type]
        case "not":
            return not matches(arguments[0], leaf, anatomy)  # type: ignore[arg-type]
    raise UserError(f"there is no selection called {where.operation!r}")


def substitute(where: Where, number: int) -> Where:
    """Puts a number in the place of `K`."""
    return Where(
        where.operation,
        tuple(
            substitute(part, number) if isinstance(part, Where) else (number if part == K else part)
            for part in where.arguments
        ),
    )
