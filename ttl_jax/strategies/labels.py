"""Label trees: every parameter gets exactly one label, and the table that is printed before step 0."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from flax.core import FrozenDict

from ttl_jax.errors import UserError
from ttl_jax.strategies.anatomy import Anatomy, anatomy_of, flatten, unflatten
from ttl_jax.strategies.parts.part import END, BoundPart, Part, joined
from ttl_jax.strategies.parts.stochnorm import stochastic
from ttl_jax.strategies.select import matches
from ttl_jax.strategies.strategy import FREEZE, WRITTEN_OUT, Phase, Strategy, expand


@dataclass(frozen=True)
class LabelledPhase:
    """A phase bound to one network. It is the key of its compiled step.

    Two are equal, and share a step, where all that a step is made of is equal: the labels, the rates
    relative to the phase's own, the still units, and the parts with all their fields. What the schedule
    reads (`phase`, `rates`) does not count.

    Attributes:
        phase: the phase with its defaults filled in.
        labels: parameter path -> label, for every leaf.
        rates: parameter path -> multiplier of the run's learning rate (or of the phase's `base_lr`), for
            every trainable leaf.
        still: units whose BatchNorm statistics do not move in this phase.
        digest: SHA-256 of the label tree, kept in checkpoints so that a state is never restored
            under another tree (Orbax would not complain).
        parts: behaviours that take part in training, bound to the trainable leaves.
        scales: the part of `rates` that differs within the phase.
    """

    phase: Phase = field(compare=False)
    labels: Mapping[str, str]
    rates: Mapping[str, float] = field(compare=False)
    still: tuple[str, ...]
    digest: str
    parts: tuple[BoundPart, ...] = ()
    scales: Mapping[str, float] = field(init=False)

    def __post_init__(self) -> None:
        factor = 1.0 if self.phase.lr is None else self.phase.lr
        scales = {path: float(f"{rate / factor:.12g}") for path, rate in self.rates.items()}
        for name, values in (("labels", self.labels), ("rates", self.rates), ("scales", scales)):
            object.__setattr__(self, name, FrozenDict(values))

    @property
    def trainable(self) -> tuple[str, ...]:
        """The paths that are differentiated and updated."""
        return tuple(path for path, label in self.labels.items() if label != FREEZE)

    # What its parts need, all together.

    @property
    def capture(self) -> tuple[str, ...]:
        """Units whose outputs its parts read."""
        return tuple(dict.fromkeys(unit for item in self.parts for unit in item.capture))

    @property
    def source(self) -> tuple[str, ...]:
        """Units whose outputs in the starting network its parts read."""
        return tuple(dict.fromkeys(unit for item in self.parts for unit in item.source))

    @property
    def anchor(self) -> tuple[str, ...]:
        """Paths whose starting values its parts read."""
        return tuple(dict.fromkeys(path for item in self.parts for path in item.anchor))

    @property
    def measures(self) -> bool:
        """Return whether the state holds multipliers of the learning rate."""
        return any(item.part.measures for item in self.parts)

    @property
    def averages(self) -> bool:
        """Return whether the state holds a moving average of the weights."""
        return any(item.part.averages for item in self.parts)

    @property
    def ahead(self) -> BoundPart | None:
        """The part that measures batches before each epoch."""
        return next((item for item in self.parts if item.batches_ahead), None)

    @property
    def solver(self) -> BoundPart | None:
        """The part that solves the phase in the place of steps."""
        return next((item for item in self.parts if item.part.solves), None)

    @property
    def keeps(self) -> int:
        """So many of the last validations leave their weights for the end, if this is the last phase."""
        return max((item.part.keeps for item in self.parts), default=0)

    @property
    def keeps_start(self) -> bool:
        """Return whether the phase's starting weights are kept for the end, if this is the last phase."""
        return any(item.part.keeps_start for item in self.parts)

    @property
    def strengths(self) -> tuple[float, ...]:
        """The weights of its parts, which a step takes as arguments."""
        return tuple(item.strength for item in self.parts if item.strength is not None)

    def weighted(self, strengths: Any) -> LabelledPhase:
        """The phase with these `strengths`, which may be traced."""
        given = iter(strengths)
        parts = (item if item.strength is None else item.weighted(next(given)) for item in self.parts)
        return replace(self, parts=tuple(parts))


def labels(
    strategy: Strategy, phase: Phase | int, params: Mapping[str, Any], model: str | None = None
) -> dict[str, Any]:
    """Returns the label tree of one phase: the structure of `params` with a label in every leaf.

    Args:
        phase: one of the strategy's phases, or its number (from 0) among those written out for
            this network (a gradual strategy has one a stage).
        params: parameters of the (cut) network, or their shapes.
        model: the network's name; found from the parameter paths when not given.

    Raises:
        UserError: a leaf that matches no rule or two labels, a rule that matches nothing, or a
            phase in which nothing trains.
    """
    anatomy = anatomy_of(params, model)
    phases = expand(strategy, len(anatomy.stages))
    if isinstance(phase, int):
        if not 0 <= phase < len(phases):
            raise UserError(f"strategy {strategy.name!r} has phases 0 to {len(phases) - 1} here")
        phase = phases[phase]
    else:
        phase = expand(Strategy(strategy.name, phases=(phase,)), len(anatomy.stages))[0]
    return unflatten(label_leaves(phase, anatomy))


def label_leaves(phase: Phase, anatomy: Anatomy) -> dict[str, str]:
    """Labels every leaf by the rules of a phase that has its defaults filled in."""
    rules = phase.rules or ()
    used = [False] * len(rules)
    label_of: dict[str, str] = {}
    for leaf in anatomy.leaves:
        hits = [number for number, (where, _) in enumerate(rules) if matches(where, leaf, anatomy)]
        if len(hits) != 1:
            said = ", ".join(str(rules[number][0]) for number in hits) or "no rule"
            raise UserError(
                f"phase {phase.name!r}: parameter {leaf.path} matches {said}; "
                "the rules of a phase must match every parameter exactly once"
            )
        used[hits[0]] = True
        label_of[leaf.path] = rules[hits[0]][1]
    idle = [str(where) for (where, _), hit in zip(rules, used, strict=True) if not hit]
    if idle and phase.each != WRITTEN_OUT:
        raise UserError(
            f"phase {phase.name!r}: the rule for {', '.join(idle)} matches no parameter of this network"
        )
    if all(label == FREEZE for label in label_of.values()):
        raise UserError(f"phase {phase.name!r}: nothing is trainable; give some parameters a label")
    return label_of


def bind(
    strategy: Strategy, params: Mapping[str, Any], model: str | None = None
) -> tuple[LabelledPhase, ...]:
    """Binds every phase of a strategy to a network."""
    anatomy = anatomy_of(params, model)
    bound = []
    for phase in expand(strategy, len(anatomy.stages)):
        label_of = label_leaves(phase, anatomy)
        multipliers = rates(phase, label_of, anatomy)
        text = json.dumps(sorted(label_of.items()))
        bound.append(
            LabelledPhase(
                phase,
                label_of,
                multipliers,
                still_units(phase, label_of, anatomy),
                hashlib.sha256(text.encode()).hexdigest(),
                _bind_parts(strategy, phase, anatomy, tuple(multipliers)),
            )
        )
    return tuple(bound)


def _bind_parts(
    strategy: Strategy, phase: Phase, anatomy: Anatomy, trainable: Sequence[str]
) -> tuple[BoundPart, ...]:
    """The parts of a phase: the strategy's, its own, and what its `bn` stands for.

    Raises:
        UserError: two of one slot, one of the end that belongs to a phase alone, or a part whose fields
            cannot be a key.
    """
    own = (*phase.parts, *stochastic(phase.bn, phase.name))
    for part in own:
        if part.slot == END:
            raise UserError(
                f"phase {phase.name!r}: {part} belongs to the whole strategy: Strategy(parts=...)"
            )
    every: tuple[Part, ...] = joined(strategy.parts, own, (strategy.name, phase.name or strategy.name))
    bound = tuple(item for part in every if (item := part.bind(anatomy, trainable)) is not None)
    for item in bound:
        if not _is_key(item):
            raise UserError(
                f"part {item.part}: its fields are the key of the compiled step, so its class must be a "
                "frozen dataclass of values that can be hashed (tuples, not lists), without other attributes"
            )
    return bound


def _is_key(item: BoundPart) -> bool:
    """Asks whether equal parts are equal in all that they hold."""
    try:
        hash(item)
    except TypeError:
        return False
    return not is_dataclass(item) or vars(item).keys() <= {each.name for each in fields(item)}


def rates(phase: Phase, found: Mapping[str, str], anatomy: Anatomy) -> dict[str, float]:
    """The learning-rate multiplier of every trainable leaf: phase, label, and depth (ULMFiT's decay).

    Raises:
        UserError: a decay that is not by "stage" or "unit".
    """
    transforms = phase.transforms or {}
    multipliers = {}
    for leaf in anatomy.leaves:
        label = found[leaf.path]
        if label == FREEZE:
            continue
        rate = (phase.lr or 1.0) * (transforms[label].lr if label in transforms else 1.0)
        if phase.decay is not None:
            factor, by = phase.decay
            if by not in ("stage", "unit"):
                raise UserError(f"phase {phase.name!r}: decay by {by!r} is not by 'stage' or 'unit'")
            depth = anatomy.depth(leaf) if by == "unit" else len(anatomy.stages) + 1 - leaf.stage
            rate /= factor**depth
        multipliers[leaf.path] = rate
    return multipliers


def still_units(phase: Phase, found: Mapping[str, str], anatomy: Anatomy) -> tuple[str, ...]:
    """The units whose modules run in inference mode (running statistics, no dropout) in a phase."""
    if phase.bn == "moving":
        return ()
    if phase.bn in ("still", "adapted"):
        return anatomy.units
    if phase.bn != "auto" and not stochastic(phase.bn, phase.name):
        raise UserError(
            f"phase {phase.name!r}: bn={phase.bn!r} is unknown; it is 'auto', 'still', 'moving', "
            "'adapted' or 'stochastic(p)'"
        )
    still = []
    for number, name in enumerate(anatomy.units, start=1):
        leaves = [leaf for leaf in anatomy.leaves if leaf.unit == number]
        # The norms decide for their unit; one without norms (VGG) is still when all of it is frozen.
        deciding = [leaf for leaf in leaves if leaf.kind == "norm"] or leaves
        if all(found[leaf.path] == FREEZE for leaf in deciding):
            still.append(name)
    return tuple(still)


@dataclass(frozen=True)
class LabelRow:
    """One line of the label table."""

    label: str
    leaves: int
    parameters: int
    share: float
    statistics: str


def table(bound: LabelledPhase, params: Mapping[str, Any], model: str | None = None) -> list[LabelRow]:
    """The label table of a phase: leaves, parameters, their share, and how BatchNorms behave."""
    anatomy = anatomy_of(params, model)
    sizes = {path: int(leaf.size) for path, leaf in flatten(params).items()}
    total = sum(sizes.values())
    still = set(bound.still)
    rows = []
    for label in sorted(set(bound.labels.values())):
        paths = [path for path, given in bound.labels.items() if given == label]
        units = {
            anatomy.units[leaf.unit - 1]
            for leaf in anatomy.leaves
            if leaf.path in set(paths) and leaf.kind == "norm" and leaf.unit != anatomy.head
        }
        count = sum(sizes[path] for path in paths)
        held = len(units & still)
        statistics = "no norms" if not units else f"still in {held}, moving in {len(units) - held} units"
        rows.append(LabelRow(label, len(paths), count, count / total, statistics))
    return rows
