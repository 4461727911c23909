"""Label trees: every parameter gets exactly one label, and the table that is printed before step 0."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ttl_jax.errors import UserError
from ttl_jax.strategies.anatomy import Anatomy, anatomy_of, flatten, unflatten
from ttl_jax.strategies.features import BoundFeature, bind_feature
from ttl_jax.strategies.penalties import BoundPull, Pull, bind_pull
from ttl_jax.strategies.probe import BoundProbe, bind_probe
from ttl_jax.strategies.select import matches
from ttl_jax.strategies.strategy import FREEZE, WRITTEN_OUT, Phase, Strategy, expand


@dataclass(frozen=True)
class LabelledPhase:
    """A phase bound to one network.

    Attributes:
        phase: the phase with its defaults filled in.
        labels: parameter path -> label, for every leaf.
        rates: parameter path -> multiplier of the run's learning rate (or of the phase's `base_lr`), for
            every trainable leaf.
        still: units whose BatchNorm statistics do not move in this phase.
        digest: SHA-256 of the label tree, kept in checkpoints so that a state is never restored
            under another tree (Orbax would not complain).
        pulls: the penalties on parameters, with the trainable paths that each acts on.
        probe: what measures learning-rate multipliers while the phase runs, if anything does.
        features: the penalties on features, with the units that each captures.
        stochastic: the share of channels that take the batch's statistics (StochNorm), if any.
    """

    phase: Phase
    labels: dict[str, str]
    rates: dict[str, float]
    still: tuple[str, ...]
    digest: str
    pulls: tuple[BoundPull, ...] = ()
    probe: BoundProbe | None = None
    features: tuple[BoundFeature, ...] = ()
    stochastic: float | None = None

    @property
    def trainable(self) -> tuple[str, ...]:
        """The paths that are differentiated and updated."""
        return tuple(path for path, label in self.labels.items() if label != FREEZE)

    @property
    def scales(self) -> dict[str, float]:
        """The part of `rates` that differs within the phase: without the phase's own factor, which
        belongs to the schedule, so that phases with equal labels share one compiled step.
        """
        factor = 1.0 if self.phase.lr is None else self.phase.lr
        return {path: float(f"{rate / factor:.12g}") for path, rate in self.rates.items()}


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
    found: dict[str, str] = {}
    for leaf in anatomy.leaves:
        hits = [number for number, (where, _) in enumerate(rules) if matches(where, leaf, anatomy)]
        if len(hits) != 1:
            said = ", ".join(str(rules[number][0]) for number in hits) or "no rule"
            raise UserError(
                f"phase {phase.name!r}: parameter {leaf.path} matches {said}; "
                "the rules of a phase must match every parameter exactly once"
            )
        used[hits[0]] = True
        found[leaf.path] = rules[hits[0]][1]
    idle = [str(where) for (where, _), hit in zip(rules, used, strict=True) if not hit]
    if idle and phase.each != WRITTEN_OUT:
        raise UserError(
            f"phase {phase.name!r}: the rule for {', '.join(idle)} matches no parameter of this network"
        )
    if all(label == FREEZE for label in found.values()):
        raise UserError(f"phase {phase.name!r}: nothing is trainable; give some parameters a label")
    return found


def bind(
    strategy: Strategy, params: Mapping[str, Any], model: str | None = None
) -> tuple[LabelledPhase, ...]:
    """Binds every phase of a strategy to a network."""
    anatomy = anatomy_of(params, model)
    bound = []
    for phase in expand(strategy, len(anatomy.stages)):
        found = label_leaves(phase, anatomy)
        multipliers = rates(phase, found, anatomy)
        text = json.dumps(sorted(found.items()))
        bound.append(
            LabelledPhase(
                phase,
                found,
                multipliers,
                still_units(phase, found, anatomy),
                hashlib.sha256(text.encode()).hexdigest(),
                tuple(
                    bind_pull(penalty, anatomy, tuple(multipliers))
                    for penalty in strategy.penalties
                    if isinstance(penalty, Pull)
                ),
                bind_probe(phase.probe, anatomy, tuple(multipliers)) if phase.probe else None,
                tuple(
                    item
                    for penalty in strategy.penalties
                    if not isinstance(penalty, Pull)
                    and (item := bind_feature(penalty, anatomy, tuple(multipliers))) is not None
                ),
                stochastic_share(phase),
            )
        )
    return tuple(bound)


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
    if phase.bn == "still":
        return anatomy.units
    if phase.bn != "auto" and stochastic_share(phase) is None:
        raise UserError(
            f"phase {phase.name!r}: bn={phase.bn!r} is unknown; it is 'auto', 'still', 'moving' "
            "or 'stochastic(p)'"
        )
    still = []
    for number, name in enumerate(anatomy.units, start=1):
        leaves = [leaf for leaf in anatomy.leaves if leaf.unit == number]
        # The norms decide for their unit; one without norms (VGG) is still when all of it is frozen.
        deciding = [leaf for leaf in leaves if leaf.kind == "norm"] or leaves
        if all(found[leaf.path] == FREEZE for leaf in deciding):
            still.append(name)
    return tuple(still)


def stochastic_share(phase: Phase) -> float | None:
    """The p of bn="stochastic(p)"; None for the other policies.

    Raises:
        UserError: a p that is not a number between 0 and 1.
    """
    found = re.fullmatch(r"stochastic\((.*)\)", phase.bn or "")
    if found is None:
        return None
    try:
        share = float(found[1])
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UserError(f"phase {phase.name!r}: bn={phase.bn!r}: p must be a number from 0 to 1")
    return share


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
