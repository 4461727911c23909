"""Frozen bottom units computed once: their outputs take the place of the images.

Where the lowest units of a phase are frozen, keep their statistics still, and nothing random happens
to an image, what they give for an image is the same in every epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax.data import ArrayReader, eval_batches
from ttl_jax.data.dataset import Dataset
from ttl_jax.models import Network
from ttl_jax.models.layers import global_average_pool
from ttl_jax.strategies import FREEZE, LabelledPhase, anatomy_of
from ttl_jax.typing import Array


def frozen_prefix(bound: LabelledPhase, params: Mapping[str, Any], model: str) -> str | None:
    """The highest unit of the run of units, from the stem up, that are frozen and still."""
    anatomy = anatomy_of(params, model)
    moving = {
        anatomy.units[leaf.unit - 1]
        for leaf in anatomy.leaves
        if leaf.unit != anatomy.head and bound.labels[leaf.path] != FREEZE
    }
    highest = None
    for name in anatomy.units:
        if name in moving or name not in bound.still:
            break
        highest = name
    return highest


@dataclass(frozen=True)
class Prefix:
    """The function that stands in for the units up to `after`.

    Attributes:
        after: the last unit of the prefix.
        compute: (variables, images uint8 (N, S, S, 3)) -> features (N, ...), jitted. With nothing
            but a pooling head above, the features are pooled already: a small fraction of the map.
    """

    after: str
    compute: Callable[[Mapping[str, Any], Array | np.ndarray], Array]


def make_prefix(network: Network, after: str, normalise: Callable[[Array], Array]) -> Prefix:
    """Builds the function from images to the outputs of a unit."""
    pooled = after == network.units[-1].name and network.head.kind != "flatten"

    @jax.jit
    def compute(variables: Mapping[str, Any], images: Array | np.ndarray) -> Array:
        _, captured = network.apply(variables, normalise(jnp.asarray(images)), capture=(after,))  # type: ignore[misc]
        features = captured[after]
        return global_average_pool(features) if pooled and features.ndim > 2 else features

    return Prefix(after, compute)


def feature_bytes(prefix: Prefix, variables: Mapping[str, Any], dataset: Dataset) -> int:
    """How much memory the features of a data set take."""
    image = jax.ShapeDtypeStruct(dataset.images.read(np.zeros(1, np.int64)).shape, np.uint8)
    shape = jax.eval_shape(prefix.compute, dict(variables), image)
    return len(dataset) * shape.size * shape.dtype.itemsize


def with_features(prefix: Prefix, variables: Mapping[str, Any], dataset: Dataset, batch_size: int) -> Dataset:
    """The same data set with features (N, ...) in the place of its images."""
    parts = [
        np.asarray(prefix.compute(dict(variables), batch["image"]))[batch["mask"] > 0]
        for batch in eval_batches(dataset, min(batch_size, len(dataset)))
    ]
    return replace(dataset, images=ArrayReader(np.concatenate(parts)))
