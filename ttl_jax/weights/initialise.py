"""Fresh parameters, each a function of (seed, path, shape) alone.

So two strategies that share a seed start from the same head, whatever else of the network they keep.
"""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from ttl_jax import models
from ttl_jax.system.host import release_memory
from ttl_jax.typing import Variables

ROWS = 1024  # of a linear kernel are drawn at once
CLIPPED_STD = 0.87962566103423978  # of a standard normal cut at two standard deviations


def template(
    name: str, num_classes: int, *, channels: int = 3, image_size: int = 224, depth: int = 16, **shape: Any
) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shape of every leaf: {"params/stem/conv/kernel": ShapeDtypeStruct, ...}.

    Args:
        name: Name of the network.
        num_classes: Number of outputs of the head.
        channels: Channels of the images.
        image_size: Pixels per side; used only by a "flatten" head.
        depth: Slices per volume; used only by a "flatten" head.
        **shape: `cut`, `slim_from`, `slim` and `head`, as for `models.create`.
    """
    network = models.create(name, num_classes, **shape)
    example = models.input_shape(name, image_size, channels, depth)
    return _leaves(network, example)


@cache  # a search and a sweep build the same network again and again
def _leaves(network: models.Network, example: tuple[int, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    image = jax.ShapeDtypeStruct((1, *example), jnp.float32)
    return flatten(jax.eval_shape(network.init, jax.random.key(0), image))


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested dicts to {"a/b/c": leaf}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}/") if hasattr(value, "items") else {prefix + key: value}
    return flat


def unflatten(flat: dict[str, Any]) -> Variables:
    """Invert `flatten`; both collections exist, though one may be empty."""
    return {"params": {}, "batch_stats": {}, **unflatten_dict(flat, sep="/")}


def fresh(path: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return fresh values of one leaf, float32.

    Convolutions: kaiming normal over fan-out (torchvision), cut at two standard deviations; linear
    kernels: uniform within 1 / sqrt(fan-in) (torch); norms: 1 and 0; biases: 0; embeddings of
    positions: normal over sqrt(channels) (CLIP).
    """
    leaf = path.rsplit("/", 1)[-1]
    if leaf in ("scale", "var"):
        return np.ones(shape, np.float32)
    if leaf in ("bias", "mean"):
        return np.zeros(shape, np.float32)
    rng = np.random.default_rng([seed, zlib.crc32(path.encode())])
    if leaf == "positions":
        return (rng.normal(size=shape) / np.sqrt(shape[1])).astype(np.float32)
    if len(shape) == 2:
        bound, linear = 1 / np.sqrt(shape[0]), np.empty(shape, np.float32)
        for start in range(0, shape[0], ROWS):  # the same draws; VGG's in float64 at once would be 800 MB
            stop = min(start + ROWS, shape[0])
            linear[start:stop] = rng.uniform(-bound, bound, (stop - start, shape[1]))
        return linear
    fan_out = int(np.prod(shape[:-2])) * shape[-1]
    values = rng.normal(size=shape)
    while (outside := np.abs(values) > 2).any():
        values[outside] = rng.normal(size=int(outside.sum()))
    return (values * np.sqrt(2 / fan_out) / CLIPPED_STD).astype(np.float32)


def initialise(name: str, num_classes: int, *, seed: int = 0, **shape: Any) -> Variables:
    """Return freshly initialised variables of a network.

    Args:
        name: Name of the network.
        num_classes: Number of outputs of the head.
        seed: Seed of every leaf's initial values.
        **shape: Shape options, as for `template`.
    """
    leaves = template(name, num_classes, **shape)
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # NumPy draws without Python's lock
        drawn = threads.map(lambda path: fresh(path, leaves[path].shape, seed), leaves)
        variables = unflatten(dict(zip(leaves, drawn, strict=True)))
    release_memory()  # what tracing and drawing took
    return variables
