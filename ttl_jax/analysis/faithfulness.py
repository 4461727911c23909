"""Faithfulness of attribution maps: their rank correlation with maps of random weights, deletion and
insertion, and energy inside masks.

Plain functions of maps (N, [D,] h, w) as `attribution` makes them. Only places that speak for the class
count, as in an overlay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from ttl_jax.analysis.attribution import enlarged
from ttl_jax.models import Network
from ttl_jax.typing import Bool, Float, Variables

LAYERS = 12  # at which weights are randomised at most: a DenseNet has 60 units
POINTS = 17  # of a curve, from the whole image to nothing of it
BLUR = 1 / 20  # of the image's side: what is inserted into keeps its colours, no detail


def randomised(network: Network, variables: Variables, seed: int = 0) -> Iterator[tuple[str, Variables]]:
    """The network with the head's weights randomised, then the next unit's below too, ..., down to the stem.

    The cascade of Adebayo et al. 2018 (NeurIPS). Every array's values are shuffled: nothing that was learned
    is left, and their distribution stays, also that of statistics.

    Returns:
        (lowest unit that is randomised, variables) one after the other; at most `LAYERS`.
    """
    paths = {path: spec.name for spec in network.units for path, _ in spec.parts}
    order = ["head", *reversed([spec.name for spec in network.units])]

    def unit_of(keys: tuple[jax.tree_util.DictKey, ...]) -> str:
        names = [str(key.key) for key in keys[1:]]
        prefixes = ("/".join(names[:length]) for length in range(1, len(names) + 1))
        return next((paths[prefix] for prefix in prefixes if prefix in paths), "head")

    leaves, tree = jax.tree_util.tree_flatten_with_path(dict(variables))
    units = [unit_of(path) for path, _ in leaves]
    order = [name for name in order if name in units]  # a pool has no weights
    random = np.random.default_rng(seed)
    shuffled = [random.permutation(np.asarray(leaf).ravel()).reshape(leaf.shape) for _, leaf in leaves]
    for last in np.unique(np.linspace(0, len(order) - 1, min(LAYERS, len(order))).round().astype(int)):
        gone = set(order[: last + 1])
        mixed = [
            new if unit in gone else old for unit, new, (_, old) in zip(units, shuffled, leaves, strict=True)
        ]
        yield order[last], jax.tree_util.tree_unflatten(tree, mixed)


def rank_correlation(
    maps: Float[np.ndarray, "n *places"], others: Float[np.ndarray, "n *places"]
) -> Float[np.ndarray, "n"]:
    """Spearman's correlation of two maps of each image; 0 where one of them is the same everywhere."""
    one, other = (rankdata(_for_the_class(each).reshape(len(each), -1), axis=1) for each in (maps, others))
    one, other = one - one.mean(axis=1, keepdims=True), other - other.mean(axis=1, keepdims=True)
    scale = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return np.divide((one * other).sum(axis=1), scale, out=np.zeros(len(one)), where=scale > 0)


@dataclass(frozen=True)
class Curves:
    """The class's probability as pixels go, or come, in the map's order and in a random one.

    Attributes:
        deletion: (N, points): 0 to all of the pixels replaced by the mean colour, the map's highest first.
        insertion: (N, points): put into the blurred image instead.
        deletion_at_random, insertion_at_random: the same in a random order of the map's places.
    """

    deletion: Float[np.ndarray, "n points"]
    insertion: Float[np.ndarray, "n points"]
    deletion_at_random: Float[np.ndarray, "n points"]
    insertion_at_random: Float[np.ndarray, "n points"]

    def areas(self) -> dict[str, Float[np.ndarray, "n"]]:
        """Area under each curve, 0 to 1, an image. Good maps: low for deletion, high for insertion."""
        return {name: (curve[:, 1:] + curve[:, :-1]).mean(axis=1) / 2 for name, curve in vars(self).items()}


def curves(
    probability: Callable[[np.ndarray], np.ndarray],
    images: Float[np.ndarray, "n *space c"],
    maps: Float[np.ndarray, "n *places"],
    seed: int = 0,
) -> Curves:
    """Deletion and insertion (Petsiuk et al. 2018, BMVC), beside a random order: the level of chance.

    Args:
        probability: normalised images (N, ..., C) -> probability (N,) of each one's class.
        images: normalised images; 0 is the mean colour.
        maps: one of each.
        seed: of the random order and of the order of places that have equal values.
    """
    random = np.random.default_rng(seed)
    space = images.shape[1:-1]
    blur = (0, *(BLUR * side if axis >= len(space) - 2 else 0 for axis, side in enumerate(space)), 0)
    mean, blurred = np.zeros_like(images), gaussian_filter(images, blur)
    chance = random.random(maps.shape, np.float32)  # of the map's own coarseness: fine noise hides more

    def curve(
        order: Float[np.ndarray, "n *places"], start: np.ndarray, end: np.ndarray
    ) -> Float[np.ndarray, "n points"]:
        values = np.asarray(enlarged(order, space)).reshape(len(images), -1)
        rank = np.lexsort((random.random(values.shape), -values), axis=1).argsort(axis=1)
        rank = rank.reshape(len(images), *space, 1)
        steps = np.linspace(0, np.prod(space), POINTS).round()
        return np.stack([probability(np.where(rank < step, end, start)) for step in steps], axis=1)

    ranked_by = _for_the_class(maps)
    return Curves(
        curve(ranked_by, images, mean),
        curve(ranked_by, blurred, images),
        curve(chance, images, mean),
        curve(chance, blurred, images),
    )


@dataclass(frozen=True)
class Inside:
    """Share of each map that lies in its mask.

    Attributes:
        energy: (N,) share of the map's sum within the mask (Wang et al. 2020); NaN for an empty map.
        hit: (N,) whether its highest place is in the mask (pointing game, Zhang et al. 2016).
        area: (N,) the mask's share of the image: what an even map, and a random place, would have.
    """

    energy: Float[np.ndarray, "n"]
    hit: Bool[np.ndarray, "n"]
    area: Float[np.ndarray, "n"]


def inside(maps: Float[np.ndarray, "n *places"], masks: Bool[np.ndarray, "n *space"]) -> Inside:
    """Energy inside masks, of the images' size, and the pointing game."""
    large = np.asarray(enlarged(_for_the_class(maps), masks.shape[1:])).reshape(len(masks), -1)
    within = masks.reshape(len(masks), -1)
    total, peak = large.sum(axis=1, dtype=np.float64), large.argmax(axis=1)
    held = (large * within).sum(axis=1, dtype=np.float64)
    energy = np.divide(held, total, out=np.full(len(masks), np.nan), where=total > 0)
    return Inside(energy, within[np.arange(len(masks)), peak] & (total > 0), within.mean(axis=1))


def _for_the_class(maps: Float[np.ndarray, "n *places"]) -> Float[np.ndarray, "n *places"]:
    return np.maximum(np.asarray(maps, np.float32), 0)
