"""The protocol of a behaviour: one file of this folder each, and nothing else knows which there are.

A strategy holds a `Part`; a phase of one network holds the `BoundPart` that it becomes. A bound part takes
part in training at the moments below, in this order. A moment that it does not define changes nothing.

    before the run     constants     is measured once, from the starting weights and the training data
    before an epoch    make_measure  measures batches that are about to be trained on
    in the step        parameters    changes the parameters of the forward pass
                       forward       changes what layers do
                       loss          adds a term to the loss
                       update        changes the optimizer's updates
                       moved         changes the parameters after them
                       average       moves a mean of the weights along
    instead of steps   solve          finds the parameters of the phase outright
    at the end         end            makes the weights that are tested

A part is a frozen dataclass: its fields are the key of the compiled step (see `LabelledPhase`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Self

from ttl_jax.data.dataset import Dataset
from ttl_jax.errors import UserError
from ttl_jax.models import Network
from ttl_jax.strategies.anatomy import Anatomy
from ttl_jax.typing import Array, Float, Variables

Leaves = Mapping[str, Array]  # path -> leaf
Constants = dict[str, Any]  # name -> arrays that a step is given besides its batch
Draw = Callable[[], Array]  # the PRNG key of a step, a function of (seed, step)
Score = Callable[[Leaves], Any]  # weights -> their `Merit` on validation; the greater is the better

END = "what happens after training"


@dataclass(frozen=True)
class Start:
    """The network as a run starts it, for constants.

    Attributes:
        network: the network after the strategy's surgery.
        variables: the starting weights.
        normalise: uint8 images -> what the network takes.
        batch_size: images in a pass without gradients.
        units: all units whose starting outputs some part of some phase compares with.
    """

    network: Network
    variables: Variables
    normalise: Callable[[Array], Array]
    batch_size: int
    units: tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    """The arguments of a part's loss of a batch.

    Attributes:
        params: {path: leaf} of the trainable parameters.
        features: unit -> its output (N, ..., C).
        source: unit -> the starting network's output (N, ..., C).
        labels: (N,) class numbers, or (N, classes); of the whole batch, as the features are, where the phase
            captures a unit, else of one device.
        constants: arrays by name; "anchor" holds the starting values.
    """

    params: Leaves
    features: Leaves
    source: Leaves
    labels: Array
    constants: Mapping[str, Any]

    @property
    def anchor(self) -> Leaves:
        """{path: starting value} of the paths that parts name in `anchor`."""
        anchor: Leaves = self.constants.get("anchor", {})
        return anchor


@dataclass(frozen=True)
class Ended:
    """The weights that a finished run may choose from, each {path: leaf} of parameters and statistics.

    Attributes:
        best: the weights of the best validation.
        start: () -> those that the last phase began with.
        validated: () -> those of the last validations, oldest first, as many as the part `keeps`.
        fresh_head: the last phase began with an untrained head.
    """

    best: Leaves
    start: Callable[[], Leaves]
    validated: Callable[[], Sequence[Leaves]]
    fresh_head: bool


class BoundPart:
    """A behaviour in one phase of one network. All defaults change nothing.

    Attributes:
        part: the part that was bound.
    """

    part: Part

    # What it needs.

    @property
    def capture(self) -> tuple[str, ...]:
        """Units whose outputs `loss` reads, of the whole batch: padding is not masked there."""
        return ()

    @property
    def source(self) -> tuple[str, ...]:
        """Units whose outputs in the starting network `loss` reads, for the same images."""
        return ()

    @property
    def anchor(self) -> tuple[str, ...]:
        """Paths whose starting values it reads."""
        return ()

    @property
    def batches_ahead(self) -> int:
        """Batches that `make_measure` measures before each epoch, of those that come next."""
        return 0

    # In the step.

    def parameters(self, params: Leaves, anchor: Leaves, draw: Draw) -> Leaves:
        """Returns the trainable parameters that the forward pass takes."""
        return params

    def forward(self, draw: Draw) -> AbstractContextManager[Any]:
        """Returns a context in which the training forward pass runs."""
        return nullcontext()

    def loss(self, seen: Seen) -> Float[Array, ""] | None:
        """Returns a term of the loss; None adds none."""
        return None

    def update(
        self, updates: Leaves, multipliers: Leaves, gradients: Leaves, params: Leaves
    ) -> tuple[Leaves, Leaves]:
        """Returns the optimizer's updates (before the learning rate) and the rates' multipliers."""
        return updates, multipliers

    def moved(self, params: Leaves, anchor: Leaves, size_of: Callable[[str], Any]) -> Leaves:
        """Returns the parameters after the optimizer's step, which was so long for a path: learning rate
        times the leaf's multipliers."""
        return params

    def average(self, average: Leaves, values: Leaves, step: Array) -> Leaves:
        """Returns the moving average after step number `step` (from 0) of leaves with these values."""
        return average

    # Beside the steps.

    def make_measure(
        self,
        network: Any,
        trainable: Sequence[str],
        optimizer: Any,
        loss: Callable[[Array, Array], Array],
        prepare: Callable[[Array, Array], Array],
        keys_of: Callable[[Mapping[str, Any]], Array],
        after: str | None = None,
    ) -> Callable[[Any, Iterable[Mapping[str, Any]]], Any]:
        """Builds (state, batches) -> state with new multipliers; the arguments are `TrainStep`'s."""
        raise NotImplementedError

    def solve(
        self,
        network: Any,
        phase: Any,
        state: Any,
        training: Dataset,
        after: str | None,
        loss: Callable[[Array, Array], Array],
        validate: Callable[[Variables], Any],
    ) -> Any:
        """Solves the phase; `SolvedHead` has the arguments and the result."""
        raise NotImplementedError

    def end(self, ended: Ended, score: Score) -> tuple[Leaves, dict[str, Any]] | None:
        """Makes the final weights.

        Returns:
            (weights, what result.json says of them); None leaves the best ones.
        """
        return None

    # Derived.

    @property
    def strength(self) -> float | None:
        """The part's field `weight`, where it has one: an argument of the step, so that trials which differ
        in it alone compile to the same program."""
        return getattr(self.part, "weight", None)

    def weighted(self, weight: Any) -> Self:
        """The same part with another (maybe traced) weight."""
        return replace(self, part=replace(self.part, weight=weight))  # type: ignore[type-var]

    def defines(self, *moments: str) -> bool:
        """Asks whether the part's class defines one of these moments."""
        return any(getattr(type(self), name) is not getattr(BoundPart, name) for name in moments)


class Part(BoundPart):
    """A behaviour, as a strategy holds it. One that needs nothing of the network is its own bound form.

    Attributes:
        slot: name of a slot that a phase may fill once; None: any number of such parts add up.
        reads: names of the `constants` that it makes and reads.
        needs_values: the step cannot be traced before the run has its weights and data.
        source_head: the pretrained head stays beside the new one while training.
        class_labels: labels must be one class number an example.
        measures: it keeps a learning-rate multiplier for every trainable leaf.
        averages: it keeps a moving average of the weights, which is validated in their place.
        solves: name of the solver that solves the phase in the place of steps; None: the phase is trained.
        keeps: number of the last phase's last validations whose weights are kept for `end`.
        keeps_start: the weights that the last phase begins with are kept for `end`.
        changed: whether it did something else in versions whose configs have no bn_momentum.
    """

    slot: str | None = None
    reads: tuple[str, ...] = ()
    needs_values: bool = True
    source_head: bool = False
    class_labels: bool = False
    measures: bool = False
    averages: bool = False
    solves: str | None = None
    keeps: int = 0
    keeps_start: bool = False
    changed: bool = False

    def bind(self, anatomy: Anatomy, trainable: Sequence[str]) -> BoundPart | None:
        """Binds the part to a phase; None where it would change nothing there.

        Args:
            anatomy: the network's anatomy.
            trainable: paths that train in the phase.

        Raises:
            UserError: options that make no sense.
        """
        return self

    @property
    def part(self) -> Part:  # type: ignore[override]
        return self

    def constants(self, start: Start, training: Dataset) -> Constants:
        """Measures what `reads` names; equal names of two parts must hold the same thing."""
        return {}

    def shapes(self, features: Mapping[str, Any], params: Mapping[str, Any], classes: int) -> Constants:
        """The shapes of `constants`, for a plan.

        Args:
            features: unit -> shape of its output for one image, for the units that are captured.
            params: {path: shape}.
            classes: number of the task's classes.
        """
        return {}


def joined(mine: Sequence[Part], others: Sequence[Part], names: tuple[str, str]) -> tuple[Part, ...]:
    """The parts of both; of one slot equal parts count once.

    Raises:
        UserError: two different parts of one slot, naming both sides.
    """
    taken = {part.slot: part for part in mine if part.slot is not None}
    for part in others:
        if part.slot in taken and taken[part.slot] != part:
            sides = " and ".join(f"{name!r}" for name in dict.fromkeys(names))
            raise UserError(
                f"strategies {sides} disagree on {part.slot}: {taken[part.slot]} against {part}; "
                "drop one of them"
            )
    return (*mine, *(part for part in others if part.slot not in taken))
