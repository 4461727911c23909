"""Strategy and Phase: a fine-tuning method as a frozen value, and how two of them compose.

    Strategy(surgery, phases, parts)     what of the network is kept; who trains, when, with what;
                                         what is added to training (`strategies.parts`)

A field that is None says nothing, so `a + b` merges field by field: two values that differ are an
error which names both sides, and one side at most may have several phases. Parts add, but for those of
one slot (two averages of the weights), which must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field, fields, replace
from typing import Any

from ttl_jax import models
from ttl_jax.errors import UserError
from ttl_jax.strategies.parts.part import Part, joined
from ttl_jax.strategies.select import Where, backbone, everything, position, substitute
from ttl_jax.strategies.written import written

FREEZE = "freeze"
WRITTEN_OUT = "written out"  # a phase of a repeated one: a complement may be empty at the end
TRAIN = "train"


@dataclass(frozen=True)
class Surgery:
    """Changes to the network before training: what of it is kept, and how the rest starts.

    Attributes:
        cut: a unit's name or 1-based number; everything above it is dropped.
        slim_from: residual block (or dense block), 1-based, from which widths are divided by `slim`.
        slim: the divisor.
        init: start of the backbone that is kept: "pretrained", "scratch", "mean_var" (each tensor
            from a normal of its pretrained mean and variance), or {selection: one of these} with
            every other leaf pretrained. The head is none of its business.
        cut_stage: the last stage kept, in the place of `cut`.
        head: the kind of head, as `models.create` takes it.
    """

    cut: int | str | None = None
    slim_from: int | None = None
    slim: int | None = None
    init: str | Mapping[Where, str] | None = None
    cut_stage: int | str | None = None
    head: str | None = None

    @property
    def starts(self) -> dict[Where, str]:
        """{selection: how it starts}; leaves outside all of them are pretrained."""
        return {backbone: self.init} if isinstance(self.init, str) else dict(self.init or {})

    def shape(self, model: str) -> dict[str, Any]:
        """Return what `models.create` and `weights.load` have to know of the surgery, for one network.

        Raises:
            UserError: no such stage, or a cut given both by unit and by stage.
        """
        cut = self.cut
        if self.cut_stage is not None:
            if cut is not None:
                raise UserError(f"the cut is given twice: unit {cut!r} and stage {self.cut_stage!r}")
            stages = tuple(dict.fromkeys(unit.stage for unit in models.units(model)))
            last = stages[max(position(self.cut_stage, stages, "stage"), 1) - 1]
            cut = [unit.name for unit in models.units(model) if unit.stage == last][-1]
        return {"cut": cut, "slim_from": self.slim_from, "slim": self.slim or 2, "head": self.head}


@dataclass(frozen=True)
class Train:
    """The label of leaves that are updated by the run's optimizer, at its rate times `lr`."""

    lr: float = 1.0


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one label tree.

    Attributes:
        rules: (selection, label) pairs; every leaf must match exactly one. Label "freeze" is never
            differentiated. None: everything trains.
        transforms: label -> Train, for labels other than "freeze"; a label not named uses Train().
        until: "share:W" (a share of the step budget, in proportion to W), "epochs:N", "steps:N".
        bn: "auto" (statistics still where a unit's norm parameters are frozen), "still", "moving",
            "adapted" (still, with the moments of the training images, taken where the phase begins;
            AdaBN, Li et al. 2017) or "stochastic(p)" (moving; each channel takes the batch's statistics
            with probability p and the running ones otherwise, StochNorm).
        reset: start the optimizer state anew; otherwise a leaf that has the same label as in the
            phase before keeps its own.
        lr: multiplies the run's learning rate in this phase.
        base_lr: takes the place of the run's learning rate in this phase.
        decay: (factor, "stage" or "unit"): the rate of a leaf is divided by factor**depth, where the
            head has depth 0 and the topmost stage (or unit) depth 1.
        each: "stages" repeats the phase for k = 1 .. number of stages, with K replaced by k.
        name: shown in tables and logs.
        parts: behaviours of this phase alone, such as a head that is solved for (`until` still counts
            as steps of the budget).
    """

    rules: tuple[tuple[Where, str], ...] | None = None
    transforms: Mapping[str, Train] | None = None
    until: str | None = None
    bn: str | None = None
    reset: bool | None = None
    lr: float | None = None
    decay: tuple[float, str] | None = None
    each: str | None = None
    name: str | None = None
    base_lr: float | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Strategy:
    """A fine-tuning method as data; see the catalogue for the published ones.

    Attributes:
        name: shown in tables and logs.
        surgery: changes to the network before training.
        phases: the phases in their order, each with the leaves that it trains.
        parts: behaviours of all phases, and of the end.
        penalties, after: earlier names of what joins `parts`.
    """

    name: str
    surgery: Surgery = field(default_factory=Surgery)
    phases: tuple[Phase, ...] = (Phase(),)
    parts: tuple[Part, ...] = ()
    after: InitVar[Part | None] = None
    penalties: InitVar[tuple[Part, ...]] = ()

    def __post_init__(self, after: Part | None, penalties: tuple[Part, ...]) -> None:
        ending = () if after is None else (after,)
        object.__setattr__(self, "parts", (*self.parts, *penalties, *ending))

    @property
    def keeps_source_head(self) -> bool:
        """Return whether the pretrained head stays beside the new one while training."""
        return any(part.source_head for part in self.parts)

    def __repr__(self) -> str:
        return written(self)

    def __add__(self, other: Strategy) -> Strategy:
        if len(self.phases) > 1 and len(other.phases) > 1:
            raise UserError(
                f"strategies {self.name!r} and {other.name!r} both have several phases; "
                "only one side of a '+' may (drop one of them)"
            )
        one, many = (self, other) if len(self.phases) == 1 else (other, self)
        names = (one.name, many.name)
        return Strategy(
            name=f"{self.name}+{other.name}",
            surgery=_merge(one.surgery, many.surgery, names),
            phases=tuple(_merge(one.phases[0], phase, names) for phase in many.phases),
            parts=joined(self.parts, other.parts, (self.name, other.name)),
        )


def _merge(a: Any, b: Any, names: tuple[str, str]) -> Any:
    """Merges two dataclass values field by field; None gives way to anything."""
    merged = {}
    for item in fields(a):
        left, right = getattr(a, item.name), getattr(b, item.name)
        if item.name == "parts":
            merged["parts"] = joined(left, right, names)
            continue
        if left is not None and right is not None and left != right and item.name != "name":
            raise UserError(
                f"strategies {names[0]!r} and {names[1]!r} disagree on "
                f"{type(a).__name__.lower()}.{item.name}: {left} against {right}; drop one of them"
            )
        merged[item.name] = right if right is not None else left
    return type(a)(**merged)


def expand(strategy: Strategy, stages: int) -> tuple[Phase, ...]:
    """Writes a strategy's phases out for a network of so many stages, with every default filled in."""
    phases: list[Phase] = []
    for phase in strategy.phases:
        numbers = range(1, stages + 1) if phase.each == "stages" else (0,)
        for number in numbers:
            rules = phase.rules or ((everything, TRAIN),)
            phases.append(
                replace(
                    phase,
                    rules=tuple((substitute(where, number), label) for where, label in rules),
                    transforms=phase.transforms or {},
                    until=phase.until or "share:1",
                    bn=phase.bn or "auto",
                    reset=bool(phase.reset),
                    lr=1.0 if phase.lr is None else phase.lr,
                    each=WRITTEN_OUT if number else None,
                    name=(phase.name or strategy.name) + (f" {number}" if number else ""),
                )
            )
    return tuple(phases)
