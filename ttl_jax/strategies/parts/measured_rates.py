"""Learning-rate multipliers that are measured: Auto-RGN and Auto-SNR (Lee et al. 2023, section 5).

    RGN_t = ||g_t||_2 / ||theta_t||_2                      relative gradient norm of tensor t
    SNR_t = mean over elements of g^2 / (Var_out(g) + 1e-8)   signal-to-noise, as the authors coded it

Each is taken on one batch and averaged over several; RGN is then divided by its largest value over
tensors, SNR becomes 1 at or above a threshold and 0 below. Lee et al. adapted whole pretrained networks,
and their code measures no norms. Here a fresh head is small and has large gradients, and biases of norms lie
near zero (those behind EfficientNet's linear bottlenecks): their RGN, ten to some hundred times that of any
kernel, as the common divisor would all but freeze the backbone, and an SNR below the threshold would leave a
head at random. So by default (`over="backbone"`) the divisor is that of the backbone without its norms,
which themselves take its largest multiplier at most, and the head trains at the full rate.

A measure is a triple of pure functions, `initial`, `add` and `multipliers`; what it gives are traced values,
so a refresh never recompiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ttl_jax.errors import UserError, nearest
from ttl_jax.strategies.anatomy import Anatomy, Leaf, flatten, unflatten
from ttl_jax.strategies.parts.part import BoundPart, Leaves, Part
from ttl_jax.typing import Array, Float

CRITERIA = ("rgn", "snr")
NORMS = ("max", "mean", "none")
GROUPS = ("tensor", "layer", "unit")
REFRESH = ("epoch", "batch")
OVER = ("backbone", "all")
EPSILON = 1e-8  # beside SNR's variance

Sums = dict[str, Array]


@dataclass(frozen=True)
class MeasuredRates(Part):
    """Multipliers of the learning rate, measured while a phase runs.

    Attributes:
        criterion: "rgn" or "snr".
        norm: RGN is divided by its "max" over the groups that count (Lee et al.), their "mean" (a
            third-party copy) or nothing ("none", BioTune's copy).
        by: the group that shares a multiplier: "tensor", "layer" (kernel and bias of a module) or "unit".
        refresh: "epoch" measures at the start of each epoch, on batches of the training stream before they
            are trained on; "batch" measures in every batch, from the very gradient of the step.
        batches: number of batches measured at each epoch's start.
        reset_moments: the optimizer's state starts anew at each refresh, as in the authors' code.
        threshold: SNR below it stops a group until the next refresh.
        over: the groups that count: of the "backbone" those that are not norms alone (the head is not
            measured, its multiplier is 1), or "all" groups.
    """

    criterion: str = "rgn"
    norm: str = "max"
    by: str = "tensor"
    refresh: str = "epoch"
    batches: int = 5
    reset_moments: bool = False
    threshold: float = 0.95
    over: str = "backbone"

    slot = "measured learning rates"
    measures = True
    changed = True  # the fresh head counted

    def bind(self, anatomy: Anatomy, trainable: Sequence[str]) -> BoundRates:
        for name, value, known in (
            ("criterion", self.criterion, CRITERIA), ("norm", self.norm, NORMS),
            ("by", self.by, GROUPS), ("refresh", self.refresh, REFRESH), ("over", self.over, OVER),
        ):  # fmt: skip
            if value not in known:
                raise UserError(
                    f"auto_{self.criterion}: {name}={value!r} is not one of {known}{nearest(value, known)}"
                )
        if not self.batches >= 1:
            raise UserError(f"auto_{self.criterion}: batches={self.batches} must be 1 or more")
        if self.refresh == "batch" and self.reset_moments:
            raise UserError(
                f"auto_{self.criterion}: reset_moments and paper_faithful go with refresh='epoch': with "
                "'batch' no moment would ever be kept"
            )
        full = {leaf.path for leaf in anatomy.leaves if self.over == "backbone" and leaf.unit == anatomy.head}
        chosen = set(trainable) - full
        name_of: Callable[[Leaf], str] = {
            "tensor": lambda leaf: leaf.path,
            "layer": lambda leaf: leaf.path.rpartition("/")[0],
            "unit": lambda leaf: f"unit {leaf.unit}",
        }[self.by]
        groups: dict[str, list[str]] = {}
        bare = set()
        for leaf in anatomy.leaves:
            if leaf.path in chosen:
                groups.setdefault(name_of(leaf), []).append(leaf.path)
                if leaf.kind != "norm":
                    bare.add(name_of(leaf))
        # Where nothing but norms trains, they are all there is to count.
        counted = bare if bare and self.over == "backbone" else set(groups)
        return BoundRates(
            self,
            tuple((group, tuple(paths)) for group, paths in groups.items()),
            tuple(path for path in trainable if path in full),
            frozenset(counted),
        )


@dataclass(frozen=True)
class BoundRates(BoundPart):
    """The multipliers of one network.

    Attributes:
        part: the measure and its options.
        groups: (group, its paths) of every trainable leaf that is measured.
        full: the trainable leaves that are not: their multiplier is 1.
        counted: the groups that count in the normalisation.
    """

    part: MeasuredRates
    groups: tuple[tuple[str, tuple[str, ...]], ...]
    full: tuple[str, ...] = ()
    counted: frozenset[str] = frozenset()

    @property
    def batches_ahead(self) -> int:
        return self.part.batches if self.part.refresh == "epoch" else 0

    def update(
        self, updates: Leaves, multipliers: Leaves, gradients: Leaves, params: Leaves
    ) -> tuple[Leaves, Leaves]:
        if self.part.refresh == "batch":
            multipliers = self.multipliers(self.add(self.initial(), gradients, params), 1)
        return {path: multipliers[path] * update for path, update in updates.items()}, multipliers

    def initial(self) -> Sums:
        """Sums before the first batch: one scalar a group."""
        return {group: jnp.float32(0) for group, _ in self.groups}

    def add(self, sums: Sums, gradients: Leaves, params: Leaves) -> Sums:
        """Adds one batch's measure of every group."""
        measure = _rgn if self.part.criterion == "rgn" else _snr
        return {
            group: sums[group]
            + measure([gradients[path] for path in paths], [params[path] for path in paths])
            for group, paths in self.groups
        }

    def multipliers(self, sums: Sums, batches: int | Array) -> dict[str, Array]:
        """The multiplier of every trainable leaf.

        A group that does not count takes its own ratio, but no more than the largest of those that do. So
        does one whose parameters are all zero (a fresh bias): it has no relative size. Torch's biases start
        at random, so the originals never meet that case.
        """
        rest = {path: jnp.float32(1) for path in self.full}
        if not sums:  # a probe alone: there is nothing to measure
            return rest
        groups = list(sums)
        ratios = jnp.stack([sums[group] for group in groups]) / batches
        if self.part.criterion == "snr":
            values = (ratios >= self.part.threshold).astype(jnp.float32)
        else:
            counts = jnp.array([group in self.counted for group in groups]) & jnp.isfinite(ratios)
            largest = jnp.max(jnp.where(counts, ratios, 0.0))
            mean = jnp.sum(jnp.where(counts, ratios, 0.0)) / jnp.maximum(jnp.sum(counts), 1)
            scale = {"max": largest, "mean": mean, "none": jnp.float32(1)}[self.part.norm]
            values = jnp.minimum(ratios, largest) / jnp.where(scale > 0, scale, 1.0)
        place = {group: number for number, group in enumerate(groups)}
        return {path: values[place[group]] for group, paths in self.groups for path in paths} | rest

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
        """Builds the function that gives a state new multipliers from a few batches.

        The gradients are those of the data's loss alone, as in the paper, taken at the state's
        parameters in inference mode, as those of the authors are; nothing else of the state changes,
        except that the moments start anew where the part says so. Compiled once.
        """

        @jax.jit
        def add(sums: Sums, params: Any, batch_stats: Any, batch: Mapping[str, Any]) -> Sums:
            images = prepare(batch["image"], jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys_of(batch)))
            flat = flatten(params)
            train = {path: flat[path] for path in trainable}

            def objective(train: dict[str, Array]) -> Array:
                variables = {"params": unflatten({**flat, **train}), "batch_stats": batch_stats}
                return loss(network.apply(variables, images, after=after), batch["label"])

            return self.add(sums, jax.grad(objective)(train), train)

        weigh = jax.jit(self.multipliers)

        def measure(state: Any, batches: Iterable[Mapping[str, Any]]) -> Any:
            sums, count = self.initial(), 0
            for batch in batches:
                sums, count = add(sums, state.params, state.batch_stats, batch), count + 1
            state = state.replace(multipliers=weigh(sums, count))
            if self.part.reset_moments:
                flat = flatten(state.params)
                state = state.replace(opt_state=optimizer.init({path: flat[path] for path in trainable}))
            return state

        return measure


def _rgn(gradients: Sequence[Array], params: Sequence[Array]) -> Float[Array, ""]:
    """||g|| / ||theta||; infinite for a group that is zero (a fresh bias), see `multipliers`."""
    top, bottom = (sum(jnp.sum(jnp.square(leaf)) for leaf in leaves) for leaves in (gradients, params))
    return jnp.sqrt(top) / jnp.sqrt(bottom)


def _snr(gradients: Sequence[Array], params: Sequence[Array]) -> Float[Array, ""]:
    """Mean over elements of g^2 / (variance over output channels, unbiased, + 1e-8).

    The authors' torch.var(g, dim=0) is over output channels, which are the last axis here.
    """
    del params
    total: Array = jnp.float32(0)
    for leaf in gradients:
        channels = leaf.shape[-1]
        variance = jnp.var(leaf, axis=-1, keepdims=True) * (channels / max(channels - 1, 1))
        total += jnp.sum(jnp.square(leaf) / (variance + EPSILON))
    return total / sum(leaf.size for leaf in gradients)
