"""Weights against unequal classes, counted on the training split."""

from __future__ import annotations

import numpy as np

from ttl_jax.data.dataset import Dataset
from ttl_jax.errors import UserError
from ttl_jax.typing import Float


def class_weights(dataset: Dataset) -> Float[np.ndarray, " C"]:
    """Return n / (C * count) of each class, as sklearn's "balanced"; several labels: `pos_weight`.

    Returns:
        float32 (C,); for one class per image, its mean over the images is 1.

    Raises:
        UserError: a class without images.
    """
    if dataset.task == "multilabel":
        return pos_weight(dataset)
    names = dataset.class_names
    counts = np.bincount(dataset.labels, minlength=len(names))
    if not counts.all():
        absent = names[int(np.argmin(counts))]
        raise UserError(f"class {absent!r} has no image in {dataset.name}: no weight balances it")
    return (len(dataset.labels) / (len(names) * counts)).astype(np.float32)


def frequencies(dataset: Dataset) -> Float[np.ndarray, " C"]:
    """Return the share of the images in each class; several labels: of the known entries that are positive.

    Returns:
        float32 (C,), none 0 (nor 1, for several labels): their logarithms are finite.

    Raises:
        UserError: a class without images, a label without positives or without negatives.
    """
    if dataset.task == "multilabel":
        return 1 / (1 + pos_weight(dataset))
    return 1 / (len(dataset.class_names) * class_weights(dataset))


def strata(dataset: Dataset) -> np.ndarray:
    """Return the class that each image is drawn for in balanced sampling, int (N,).

    Several labels: the rarest one present, -1 where none is known to be.
    """
    if dataset.task == "multiclass":
        return dataset.labels
    present = dataset.labels == 1
    counts = present.sum(axis=0)
    rarest_first = np.argsort(counts, kind="stable")
    ordered = present[:, rarest_first]
    return np.where(ordered.any(axis=1), rarest_first[ordered.argmax(axis=1)], -1)


def pos_weight(dataset: Dataset) -> Float[np.ndarray, " L"]:
    """Return known negatives / known positives of each label, as for torch's BCEWithLogitsLoss.

    Raises:
        UserError: a label without positives, or without negatives, among the known entries.
    """
    positive = (dataset.labels == 1).sum(axis=0)
    negative = (dataset.labels == 0).sum(axis=0)
    lacking = np.flatnonzero((positive == 0) | (negative == 0))
    if len(lacking):
        name, place = dataset.class_names[lacking[0]], lacking[0]
        kind = "positive" if positive[place] == 0 else "negative"
        raise UserError(f"label {name!r} has no {kind} in {dataset.name}: no weight balances it")
    return (negative / positive).astype(np.float32)
