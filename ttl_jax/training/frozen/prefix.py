"""Frozen bottom units computed once: their outputs take the place of the images.

Where the lowest units of a phase are frozen and keep their statistics still, what they give for an
image is the same whenever the image is: in every epoch without augmentation, in every K-th with K
views of each image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax import models, registry
from ttl_jax.data import ArrayReader, ViewsReader, eval_batches
from ttl_jax.data.batches import seeds
from ttl_jax.data.dataset import Dataset
from ttl_jax.models import Network
from ttl_jax.models.layers.basic import global_average_pool
from ttl_jax.strategies import FREEZE, LabelledPhase, anatomy_of, flatten
from ttl_jax.system.placing import placed
from ttl_jax.typing import Array, Float

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
        pooled: whether the features are pooled over space.
    """

    after: str
    compute: Callable[[Mapping[str, Any], Array], Array]
    pooled: bool


def make_prefix(network: Network, after: str) -> Prefix:
    """Builds the function from prepared images to the outputs of a unit."""
    pooled = after == network.units[-1].name and network.head.kind != "flatten"

    def compute(variables: Mapping[str, Any], images: Array) -> Array:
        _, captured = network.apply(variables, images, capture=(after,))
        features = captured[after]
        return global_average_pool(features) if pooled and features.ndim > 2 else features

    return Prefix(after, compute, pooled)


def one_feature(
    prefix: Prefix,
    variables: Mapping[str, Any],
    dataset: Dataset,
    normalise: Callable[[Array], Array],
) -> jax.ShapeDtypeStruct:
    """Shape and type of the features of one image, which `normalise` may leave fewer channels."""
    image = dataset.images.read(np.zeros(1, np.int64)).shape
    feature = jax.eval_shape(
        lambda variables, images: prefix.compute(variables, normalise(images)),
        dict(variables),
        jax.ShapeDtypeStruct(image, jnp.float32),
    )
    return jax.ShapeDtypeStruct(feature.shape[1:], feature.dtype)


def make_compute(
    prefix: Prefix,
    prepare: Callable[[Array, Array], Array],
    keys_of: Callable[[Mapping[str, Array]], Array],
) -> Compute:
    """Builds the jitted function from a batch to its features.

    No BatchNorm is folded here: features are to be those of the training step to a few units in the
    last place (folded ones move the parameters of a later phase by 1e-4 of themselves in 12 steps).

    Args:
        prefix: the function from `make_prefix`.
        prepare: uint8 images and keys -> what the network takes, as in the training step.
        keys_of: batch -> (N,) keys; called with "epoch" being the number of the view.
    """

    @jax.jit
    def compute(variables: Mapping[str, Any], batch: Mapping[str, Array]) -> Array:
        keys = jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys_of(batch))
        return prefix.compute(variables, prepare(batch["image"], keys))

    return compute


def pixels(dataset: Dataset) -> str:
    """A digest of a split's images, in their order."""
    hashed = hashlib.blake2b(digest_size=20)
    for start in range(0, len(dataset), 256):
        images = dataset.images.read(np.arange(start, min(start + 256, len(dataset))))
        hashed.update(f"{images.shape} {images.dtype}".encode())
        hashed.update(np.ascontiguousarray(images).data)
    return hashed.hexdigest()


def digest(prefix: Prefix, variables: Mapping[str, Any], model: str, **about: Any) -> str:
    """Names the features of a split by all that enters them.

    Args:
        prefix: the function from `make_prefix`.
        variables: the network's variables; the bytes up to the prefix's unit enter, the rest does not.
        model: the network's registered name.
        about: the rest, as JSON takes it: the images' digest, how they are prepared, the compute type.
    """
    names = [unit.name for unit in models.units(model)]
    below = set(names[: names.index(prefix.after) + 1])
    own = registry.digest("backbone", model)  # of the user's file, which may change under its name
    about |= {"model": f"{model} {own}".strip(), "after": prefix.after, "pooled": prefix.pooled}
    about |= {"jax": jax.__version__, "backend": jax.default_backend()}
    hashed = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=20)
    for collection in ("params", "batch_stats"):
        for path, leaf in flatten(variables[collection]).items():
            if not path.startswith("source_head/") and models.unit_of(model, path) in below:
                array = np.asarray(leaf)
                hashed.update(f"{collection}/{path} {array.shape} {array.dtype}".encode())
                hashed.update(np.ascontiguousarray(array).data)
    return hashed.hexdigest()


def fill(
    dataset: Dataset,
    variables: Mapping[str, Any],
    compute: Compute,
    after: str,
    batch_size: int,
    seed: int,
    held: Float[np.ndarray, "views n *feature"],
) -> None:
    """Computes the features of all images of a split, view after view.

    Args:
        dataset: a split with images.
        variables: the network's variables.
        compute: the function from `make_compute`.
        after: the last unit of the prefix, for the line that is printed.
        batch_size: images at a time.
        seed: the run's seed.
        held: the array that is filled.
    """
    given = jax.device_put(dict(variables))  # once, not with every batch
    for view in range(len(held)):
        for batch in eval_batches(dataset, min(batch_size, len(dataset))):
            known = batch["mask"] > 0
            drawn = {"epoch": np.full_like(batch["epoch"], view), "seed": seeds(seed, len(known))}
            features = compute(given, placed({**batch, **drawn}))
            held[view, batch["example"][known]] = np.asarray(features)[known]
    what = f"{dataset.name}: units up to {after} computed once"
    print(f"{what} ({held.nbytes / 1e6:.1f} MB)", flush=True)


def with_features(dataset: Dataset, held: Float[np.ndarray, "views n *feature"]) -> Dataset:
    """The same data set with features in the place of its images."""
    return replace(dataset, images=ViewsReader(held) if len(held) > 1 else ArrayReader(held[0]))
