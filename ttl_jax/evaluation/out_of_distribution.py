"""Distance of images to the training data, in the features that the network decides by.

The distance is that to the k-th nearest training image on features of length one (Sun et al. 2022,
"Out-of-distribution detection with deep nearest neighbors"): it needs no classes and no shape of their
distribution. docs/conformal.md compares it with Mahalanobis distances.
"""

from __future__ import annotations

import numpy as np

from ttl_jax.typing import Float, Int, Shaped

NEIGHBOURS = 10  # k
_CELLS = 4_000_000  # distances held at once


def nearest(
    training: Float[np.ndarray, "n d"], features: Float[np.ndarray, "m d"], count: int
) -> tuple[Int[np.ndarray, "m count"], Float[np.ndarray, "m count"]]:
    """The training images nearest to each image, nearest first, and their distances from 0 to 2.

    Args:
        training: pooled features of training images, of any length.
        features: those of other images.
        count: neighbours wanted; all training images where there are fewer.

    Raises:
        ValueError: features of another width, or no training image.
    """
    return nearest_units(unit_length(training), features, count)


def nearest_units(
    known: Float[np.ndarray, "n d"], features: Float[np.ndarray, "m d"], count: int
) -> tuple[Int[np.ndarray, "m count"], Float[np.ndarray, "m count"]]:
    """Do as `nearest`, of training features that went through `unit_length` once for many calls."""
    if known.shape[1:] != features.shape[1:] or not len(known):
        raise ValueError(f"features {features.shape} and training features {known.shape} do not fit")
    count = min(count, len(known))
    places = np.empty((len(features), count), np.int64)
    distances = np.empty((len(features), count), np.float32)
    step = max(1, _CELLS // len(known))
    for start in range(0, len(features), step):
        rows = slice(start, start + step)
        cosine = unit_length(features[rows]) @ known.T
        few = np.argpartition(-cosine, count - 1, axis=1)[:, :count]
        alike = np.take_along_axis(cosine, few, axis=1)
        order = np.argsort(-alike, axis=1, kind="stable")
        places[rows] = np.take_along_axis(few, order, axis=1)
        distances[rows] = np.sqrt(np.maximum(2 - 2 * np.take_along_axis(alike, order, axis=1), 0))
    return places, distances


def distance(
    training: Float[np.ndarray, "n d"], features: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "m"]:
    """The distance of each image to its NEIGHBOURS-th nearest training image; see `nearest`."""
    return np.asarray(nearest(training, features, NEIGHBOURS)[1][:, -1])


def percentile(
    distances: Float[np.ndarray, "m"],
    validation: Float[np.ndarray, "n"],
    groups: Shaped[np.ndarray, "n"] | None = None,
) -> Float[np.ndarray, "m"]:
    """The share of validation patients, in percent, that lie nearer to the training data than an image.

    An image of the same population reaches 95 or more with a probability of 5 % at most: it is a conformal
    p-value (Vovk et al. 2005), 100 (1 - p). A patient counts once, spread over its images.

    Args:
        distances: of images.
        validation: distances of the validation images.
        groups: (n,) patients of these; None makes every image one.
    """
    members = np.arange(len(validation)) if groups is None else np.asarray(groups)
    place, counts = np.unique(members, return_inverse=True, return_counts=True)[1:]
    order = np.argsort(validation, kind="stable")
    patients = np.concatenate([[0.0], np.cumsum(1 / counts[place[order]])])
    nearer = np.searchsorted(np.asarray(validation)[order], distances, side="left")
    return 100 * patients[nearer] / (len(counts) + 1)


def unit_length(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Features of length one, float32."""
    values = np.asarray(features, np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
