"""Features of every unit from one forward pass, and the networks that runs have left on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax.data import eval_batches
from ttl_jax.data.dataset import Dataset
from ttl_jax.models import Network
from ttl_jax.models.layers.basic import global_average_pool
from ttl_jax.typing import Array, Float, Variables


@dataclass(frozen=True)
class Captured:
    """Features and logits of a network over a data set.

    Attributes:
        units: Unit -> features, (examples, channels) or (examples, positions, channels).
        logits: Outputs of the head, (examples, classes).
    """

    units: dict[str, Float[np.ndarray, "examples *positions channels"]]
    logits: Float[np.ndarray, "examples classes"]


def capture(
    network: Network,
    variables: Variables,
    normalise: Callable[[Array], Array],
    dataset: Dataset,
    *,
    units: Sequence[str] = (),
    positions: int = 0,
    batch_size: int = 50,
    seed: int = 0,
) -> Captured:
    """Run a data set through a network once, in inference mode.

    Args:
        network, variables: The network, whole or cut, and its parameters and statistics.
        normalise: Maps uint8 images (B, H, W, C) to the network's input.
        dataset: Any split but the test split, because no choice may rest on that one.
        units: Names of the units whose outputs to keep; all units if empty.
        positions: Number of positions of each map to keep, the same ones in every image. Similarities treat
            them as examples. 0 averages over space instead.
        batch_size: Images per forward pass.
        seed: Seed that selects the positions.
    """
    names = tuple(units) or tuple(spec.name for spec in network.units)
    run = _runner(network, normalise, names, positions, seed)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    logits: list[np.ndarray] = []
    for batch in eval_batches(dataset, min(batch_size, len(dataset))):
        # The last batch is filled up to full size; the mask drops its filling.
        real = batch["mask"] > 0
        outputs, scores = run(dict(variables), jnp.asarray(batch["image"]))
        logits.append(np.asarray(scores, np.float32)[real])
        for name in names:
            parts[name].append(np.asarray(outputs[name], np.float32)[real])
    return Captured({name: np.concatenate(part) for name, part in parts.items()}, np.concatenate(logits))


@lru_cache(maxsize=2)  # train and val share one compilation
def _runner(
    network: Network,
    normalise: Callable[[Array], Array],
    names: tuple[str, ...],
    positions: int,
    seed: int,
) -> Callable[[Variables, Array], tuple[dict[str, Array], Array]]:
    @jax.jit
    def run(variables: Variables, images: Array) -> tuple[dict[str, Array], Array]:
        logits, captured = network.apply(variables, normalise(images), capture=names)
        return {name: _thin(captured[name], positions, seed) for name in names}, logits

    return run


def _thin(features: Array, positions: int, seed: int) -> Array:
    if features.ndim == 2:
        return features
    if not positions:
        return global_average_pool(features)
    flat = features.reshape(features.shape[0], -1, features.shape[-1])
    count = flat.shape[1]
    if count <= positions:
        return flat
    places = np.random.default_rng(seed).choice(count, positions, replace=False)
    return flat[:, np.sort(places)]


def some(dataset: Dataset, count: int, seed: int = 0) -> Dataset:
    """Return at most `count` examples, drawn at random, in their order."""
    if len(dataset) <= count:
        return dataset
    return dataset.take(np.sort(np.random.default_rng(seed).choice(len(dataset), count, replace=False)))


def common_units(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names that both have, in the order of the first."""
    return tuple(name for name in one if name in other)
