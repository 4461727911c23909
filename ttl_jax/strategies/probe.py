"""Learning-rate multipliers that are measured: Auto-RGN and Auto-SNR (Lee et al. 2023, section 5).

    RGN_t = ||g_t||_2 / ||theta_t||_2                      relative gradient norm of tensor t
    SNR_t = mean over elements of g^2 / (Var_out(g) + 1e-8)   signal-to-noise, as the authors coded it

Each is taken on one batch and averaged over several; RGN is then divided by its largest value over
tensors, SNR becomes 1 at or above a threshold and 0 below. Lee et al. adapted whole pretrained networks.
A fresh head is small and has large gradients: its RGN, some hundred times the backbone's, as the common
divisor would all but freeze the backbone, and an SNR below the threshold would leave it at random. So the
backbone is measured by itself, and the head trains at the full rate (`over`). A measure is a triple of
pure functions, `initial`, `update` and `weights`; what it gives are traced values, so a refresh never
recompiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp

from ttl_jax.errors import UserError, nearest
from ttl_jax.strategies.anatomy import Anatomy
from ttl_jax.typing import Array, Float

CRITERIA = ("rgn", "snr")
NORMS = ("max", "mean", "none")
GROUPS = ("tensor", "layer", "unit")
REFRESH = ("epoch", "batch")
OVER = ("backbone", "all")
EPSILON = 1e-8  # beside SNR's variance

Leaves = Mapping[str, Array]
Sums = dict[str, Array]


@dataclass(frozen=True)
class Probe:
    """How the multipliers of a phase are measured.

    Attributes:
        criterion: "rgn" or "snr".
        norm: RGN is divided by its "max" over groups (Lee et al.), "mean" (a third-party copy) or
            nothing ("none", BioTune's copy).
        by: what shares a multiplier: a "tensor", a "layer" (kernel and bias of one module) or a "unit".
        refresh: anew at the start of each "epoch", on batches of the training stream before they
            are trained on, or in every "batch" from the very gradient of the step.
        batches: how many at each epoch's start.
        reset_moments: the optimizer's state starts anew at each refresh, as in the authors' code.
        threshold: SNR below it stops a group until the next refresh.
        over: the groups that are measured: those of the "backbone", the head's multiplier being 1, or
            "all", the head's among them.
    """

    criterion: str = "rgn"
    norm: str = "max"
    by: str = "tensor"
    refresh: str = "epoch"
    batches: int = 5
    reset_moments: bool = False
    threshold: float = 0.95
    over: str = "backbone"


@dataclass(frozen=True)
class BoundProbe:
    """A probe bound to a network.

    Attributes:
        probe: what is measured.
        groups: path -> group, of every trainable leaf that is measured.
        full: the trainable leaves that are not: their multiplier is 1.
    """

    probe: Probe
    groups: dict[str, str]
    full: tuple[str, ...] = ()


def bind_probe(probe: Probe, anatomy: Anatomy, trainable: Sequence[str]) -> BoundProbe:
    """Finds the groups.

    Raises:
        UserError: an option that does not exist.
    """
    for name, value, known in (
        ("criterion", probe.criterion, CRITERIA), ("norm", probe.norm, NORMS),
        ("by", probe.by, GROUPS), ("refresh", probe.refresh, REFRESH), ("over", probe.over, OVER),
    ):  # fmt: skip
        if value not in known:
            raise UserError(
                f"auto_{probe.criterion}: {name}={value!r} is not one of {known}{nearest(value, known)}"
            )
    if not probe.batches >= 1:
        raise UserError(f"auto_{probe.criterion}: batches={probe.batches} must be 1 or more")
    if probe.refresh == "batch" and probe.reset_moments:
        raise UserError(
            f"auto_{probe.criterion}: reset_moments and paper_faithful go with refresh='epoch': with 'batch' "
            "no moment would ever be kept"
        )
    full = {leaf.path for leaf in anatomy.leaves if probe.over == "backbone" and leaf.unit == anatomy.head}
    chosen = set(trainable) - full
    name_of = {
        "tensor": lambda leaf: leaf.path,
        "layer": lambda leaf: leaf.path.rpartition("/")[0],
        "unit": lambda leaf: f"unit {leaf.unit}",
    }[probe.by]
    groups = {leaf.path: name_of(leaf) for leaf in anatomy.leaves if leaf.path in chosen}
    return BoundProbe(probe, groups, tuple(path for path in trainable if path in full))


def members(bound: BoundProbe) -> dict[str, list[str]]:
    """Group -> its paths."""
    found: dict[str, list[str]] = {}
    for path, group in bound.groups.items():
        found.setdefault(group, []).append(path)
    return found


def initial(bound: BoundProbe) -> Sums:
    """Sums before the first batch: one scalar a group."""
    return {group: jnp.float32(0) for group in members(bound)}


def update(bound: BoundProbe, sums: Sums, gradients: Leaves, params: Leaves) -> Sums:
    """Adds one batch's measure of every group."""
    measure = _rgn if bound.probe.criterion == "rgn" else _snr
    return {
        group: sums[group] + measure([gradients[path] for path in paths], [params[path] for path in paths])
        for group, paths in members(bound).items()
    }


def _rgn(gradients: Sequence[Array], params: Sequence[Array]) -> Float[Array, ""]:
    """||g|| / ||theta||; infinite for a group that is zero (a fresh bias), see `weights`."""
    top, bottom = (sum(jnp.sum(jnp.square(leaf)) for leaf in leaves) for leaves in (gradients, params))
    return jnp.sqrt(top) / jnp.sqrt(bottom)  # type: ignore[arg-type]


def _snr(gradients: Sequence[Array], params: Sequence[Array]) -> Float[Array, ""]:
    """Mean over elements of g^2 / (variance over output channels, unbiased, + 1e-8).

    The authors' torch.var(g, dim=0) is over output channels, which are the last axis here.
    """
    del params
    total = jnp.float32(0)
    for leaf in gradients:
        channels = leaf.shape[-1]
        variance = jnp.var(leaf, axis=-1, keepdims=True) * (channels / max(channels - 1, 1))
        total += jnp.sum(jnp.square(leaf) / (variance + EPSILON))
    return total / sum(leaf.size for leaf in gradients)


def weights(bound: BoundProbe, sums: Sums, batches: int | Array) -> dict[str, Array]:
    """The multiplier of every trainable leaf.

    A group whose parameters are all zero (a fresh bias) has no relative size: it takes the largest
    finite ratio and does not count in the normalisation. Torch's biases start at random, so the
    originals never meet the case.
    """
    rest = {path: jnp.float32(1) for path in bound.full}
    if not sums:  # a probe alone: there is nothing to measure
        return rest
    groups = list(sums)
    ratios = jnp.stack([sums[group] for group in groups]) / batches
    if bound.probe.criterion == "snr":
        values = (ratios >= bound.probe.threshold).astype(jnp.float32)
    else:
        finite = jnp.isfinite(ratios)
        largest = jnp.max(jnp.where(finite, ratios, 0.0))
        known = jnp.where(finite, ratios, largest)
        mean = jnp.sum(jnp.where(finite, ratios, 0.0)) / jnp.maximum(jnp.sum(finite), 1)
        scale = {"max": largest, "mean": mean, "none": jnp.float32(1)}[bound.probe.norm]
        values = known / jnp.where(scale > 0, scale, 1.0)
    place = {group: number for number, group in enumerate(groups)}
    return {path: values[place[group]] for path, group in bound.groups.items()} | rest
