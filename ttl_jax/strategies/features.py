"""Penalties on what the network computes: BSS, DELTA and co-tuning.

    SmallSingularValues   weight * sum_{i <= k} sigma_{-i}(F)^2
                          BSS, Chen et al. 2019
    FeatureDistance       weight / 2 * mean_n sum_u sum_c C_u a_uc ||F_nuc - F0_nuc||^2 / P_u
                          DELTA, Li et al. 2019, with the scaling of TLlib
    SourceTask            - weight * mean_n sum_s p(s | y_n) log softmax(z_n)_s
                          Co-Tuning, You et al. 2020

F is the (N, C) matrix of what the head reads; F_nuc a map of unit u with C_u channels and P_u
positions, F0 the same map of the network as it started; z the logits of the source head, which
trains along. A term says which units it wants captured and what it needs of the source; the
constants a and p are measured once from the starting weights and the training split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ttl_jax.errors import UserError
from ttl_jax.strategies.anatomy import SOURCE_HEAD, Anatomy
from ttl_jax.typing import Array, Float, Int

ATTENTIONS = ("measured", "uniform")


@dataclass(frozen=True)
class SmallSingularValues:
    """Batch spectral shrinkage: pushes the k smallest singular values of the features to zero."""

    weight: float
    k: int


@dataclass(frozen=True)
class FeatureDistance:
    """DELTA: keeps the feature maps of every stage near those of the starting network.

    Attributes:
        weight: alpha.
        attention: "measured" (a channel weighs what its loss costs the task) or "uniform" (1 / C).
    """

    weight: float
    attention: str


@dataclass(frozen=True)
class SourceTask:
    """Co-tuning: the pretrained head stays and is fitted to the source classes that resemble a label."""

    weight: float


FeaturePenalty = SmallSingularValues | FeatureDistance | SourceTask


@dataclass(frozen=True)
class BoundFeature:
    """A term and the units that it captures in one phase, bottom to top."""

    penalty: FeaturePenalty
    units: tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    """What a batch gave, for the terms to read.

    Attributes:
        features: unit -> its output (N, ..., C).
        source: unit -> the starting network's output.
        labels: (N,) class numbers.
        params: {"source_head/kernel", "source_head/bias"} where a term needs them.
        attention: unit -> weights (C,) that sum to 1.
        relation: (classes, source classes): p(source class | class).
    """

    features: Mapping[str, Array]
    source: Mapping[str, Array]
    labels: Array
    params: Mapping[str, Array]
    attention: Mapping[str, Array]
    relation: Array | None


def bind_feature(penalty: FeaturePenalty, anatomy: Anatomy, trainable: Sequence[str]) -> BoundFeature | None:
    """Finds the units that a term captures; None where it is constant because nothing below trains.

    Raises:
        UserError: an option that does not exist.
    """
    if not penalty.weight >= 0:
        raise UserError(f"a penalty of weight {penalty.weight}: it must not be negative")
    chosen = set(trainable)
    lowest = min(leaf.unit for leaf in anatomy.leaves if leaf.path in chosen)
    top = anatomy.units[-1]
    match penalty:
        case SmallSingularValues(k=k):
            if not k >= 1:
                raise UserError(f"bss: k={k} must be 1 or more")
            wanted: tuple[str, ...] = (top,)
        case FeatureDistance(attention=attention):
            if attention not in ATTENTIONS:
                raise UserError(f"delta: attention={attention!r} is not one of {ATTENTIONS}")
            wanted = anatomy.stage_tops[1:] or anatomy.stage_tops  # the stem's map is nearly the image
        case SourceTask():
            return BoundFeature(penalty, (top,))  # its own head always trains
    moving = tuple(unit for unit in wanted if anatomy.units.index(unit) + 1 >= lowest)
    return BoundFeature(penalty, moving) if moving else None


def value(bound: BoundFeature, seen: Seen) -> Float[Array, ""]:
    """One term of the loss."""
    match bound.penalty:
        case SmallSingularValues(weight=weight, k=k):
            return weight * spectral_tail(pooled(seen.features[bound.units[0]]), k)
        case FeatureDistance(weight=weight):
            distances = [
                feature_distance(seen.features[unit], seen.source[unit], seen.attention[unit])
                for unit in bound.units
            ]
            return weight * jnp.sum(jnp.stack(distances))
        case SourceTask(weight=weight):
            assert seen.relation is not None
            features = pooled(seen.features[bound.units[0]])
            logits = features @ seen.params[f"{SOURCE_HEAD}/kernel"] + seen.params[f"{SOURCE_HEAD}/bias"]
            return weight * source_cross_entropy(logits, seen.labels, seen.relation)


def pooled(features: Float[Array, "n *space c"]) -> Float[Array, "n c"]:
    """Mean over positions, in float32."""
    return features.astype(jnp.float32).mean(axis=tuple(range(1, features.ndim - 1)))


def spectral_tail(features: Float[Array, "n c"], k: int) -> Float[Array, ""]:
    """Sum of the k smallest squared singular values (of min(N, C)).

    They are the smallest eigenvalues of the smaller Gram matrix, whose gradient exists also where
    two of them are equal, unlike that of singular vectors.
    """
    rows, columns = features.shape
    gram = features @ features.T if rows <= columns else features.T @ features
    return jnp.sum(jnp.linalg.eigvalsh(gram)[:k])


def feature_distance(
    features: Float[Array, "n *space c"], source: Float[Array, "n *space c"], attention: Float[Array, " c"]
) -> Float[Array, ""]:
    """Half the attended squared distance of one unit's maps, mean over examples."""
    channels = features.shape[-1]
    difference = features.astype(jnp.float32) - jax.lax.stop_gradient(source.astype(jnp.float32))
    positions = difference.size // (difference.shape[0] * channels)
    energy = jnp.sum(jnp.square(difference), axis=tuple(range(1, difference.ndim - 1)))
    return 0.5 * jnp.mean(energy @ attention) * channels / positions


def source_cross_entropy(
    logits: Float[Array, "n s"], labels: Int[Array, " n"], relation: Float[Array, "classes s"]
) -> Float[Array, ""]:
    """Cross-entropy of the source head against what the source network says of the label's class."""
    return -jnp.mean(jnp.sum(relation[labels] * jax.nn.log_softmax(logits), axis=-1))
