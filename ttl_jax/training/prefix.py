"""Frozen bottom units computed once: their outputs take the place of the images.

Where the lowest units of a phase are frozen and keep their statistics still, what they give for an
image is the same whenever the image is: in every epoch without augmentation, in every K-th with K
views of each image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax.data import ArrayReader, ViewsReader, eval_batches
from ttl_jax.data.dataset import Dataset
from ttl_jax.data.pipeline import seeds
from ttl_jax.models import Network
from ttl_jax.models.layers import global_average_pool
from ttl_jax.strategies import FREEZE, LabelledPhase, anatomy_of
from ttl_jax.typing import Array

# variables, batch -> features (N, ...)
Compute = Callable[[Mapping[str, Any], Mapping[str, Any]], Array]


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
        compute: (variables, images float (N, S, S, 3) as the network takes them) -> features (N, ...).
            With nothing but a pooling head above, the features are pooled already: a small fraction
            of the map.
    """

    after: str
    compute: Callable[[Mapping[str, Any], Array], Array]


def make_prefix(network: Network, after: str) -> Prefix:
    """Builds the function from prepared images to the outputs of a unit."""
    pooled = after == network.units[-1].name and network.head.kind != "flatten"

    def compute(variables: Mapping[str, Any], images: Array) -> Array:
        _, captured = network.apply(variables, images, capture=(after,))  # type: ignore[misc]
        features = captured[after]
        return global_average_pool(features) if pooled and features.ndim > 2 else features

    return Prefix(after, compute)


def feature_bytes(prefix: Prefix, variables: Mapping[str, Any], dataset: Dataset, views: int = 1) -> int:
    """How much room the features of a data set take."""
    shape = _shape(prefix, variables, dataset)
    return views * len(dataset) * shape.size * shape.dtype.itemsize


def _shape(prefix: Prefix, variables: Mapping[str, Any], dataset: Dataset) -> jax.ShapeDtypeStruct:
    one = dataset.images.read(np.zeros(1, np.int64)).shape
    return jax.eval_shape(prefix.compute, dict(variables), jax.ShapeDtypeStruct(one, jnp.float32))


def make_compute(
    prefix: Prefix,
    prepare: Callable[[Array, Array], Array],
    keys_of: Callable[[Mapping[str, Array]], Array],
) -> Compute:
    """Builds the jitted function from a batch to its features.

    Args:
        prefix: from `make_prefix`.
        prepare: uint8 images and keys -> what the network takes, as in the training step.
        keys_of: batch -> (N,) keys; called with "epoch" being the number of the view.
    """

    @jax.jit
    def compute(variables: Mapping[str, Any], batch: Mapping[str, Array]) -> Array:
        keys = jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys_of(batch))
        return prefix.compute(variables, prepare(batch["image"], keys))

    return compute


def with_features(
    prefix: Prefix,
    variables: Mapping[str, Any],
    dataset: Dataset,
    batch_size: int,
    compute: Compute,
    seed: int,
    views: int = 1,
    file: Path | None = None,
) -> Dataset:
    """The same data set with features in the place of its images.

    Args:
        prefix: from `make_prefix`.
        variables: of the network.
        dataset: a split with images.
        batch_size: images at a time.
        compute: from `make_compute`.
        seed: of the run.
        views: how many augmentations of each image.
        file: where to keep the features (.npy, mapped into memory); None is memory.
    """
    shape = _shape(prefix, variables, dataset)
    size = (views, len(dataset), *shape.shape[1:])
    if file is None:
        held = np.empty(size, shape.dtype)
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)  # that of the phase before may still be mapped
        held = np.lib.format.open_memmap(file, mode="w+", dtype=shape.dtype, shape=size)

    for view in range(views):
        for batch in eval_batches(dataset, min(batch_size, len(dataset))):
            known = batch["mask"] > 0
            drawn = {"epoch": np.full_like(batch["epoch"], view), "seed": seeds(seed, len(batch["epoch"]))}
            features = compute(dict(variables), {**batch, **drawn})
            held[view, batch["example"][known]] = np.asarray(features)[known]
    return replace(dataset, images=ViewsReader(held) if views > 1 else ArrayReader(held[0]))
