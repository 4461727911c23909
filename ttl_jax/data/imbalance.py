"""Weights against unequal classes, counted on the training split."""

from __future__ import annotations

import numpy as np

from ttl_jax.data.dataset import Dataset
from ttl_jax.errors import UserError
from ttl_jax.typing import Float


def class_weights(dataset: Dataset) -> Float[np.ndarray, " C"]:
    """n / (C * count) of each class, as sklearn's "balanced"; several labels: `pos_weight`.

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


def pos_weight(dataset: Dataset) -> Float[np.ndarray, " L"]:
    """Known negatives / known positives of each label, as for torch's BCEWithLogitsLoss.

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
