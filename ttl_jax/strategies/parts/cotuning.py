"""Co-tuning: the pretrained head trains along, on the source classes that resemble a label (You et al. 2020).

    - weight * mean_n sum_s p(s | y_n) log softmax(z_n)_s

z are the logits of the source head, p(s | y) the mean of the starting network's softmax over the training
images of class y.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax.data import eval_batches
from ttl_jax.data.dataset import Dataset
from ttl_jax.errors import UserError
from ttl_jax.strategies.anatomy import SOURCE_HEAD, Anatomy
from ttl_jax.strategies.parts.feature_penalty import check_weight, pooled
from ttl_jax.strategies.parts.part import BoundPart, Constants, Part, Seen, Start
from ttl_jax.typing import Array, Float, Int

KERNEL, BIAS = f"{SOURCE_HEAD}/kernel", f"{SOURCE_HEAD}/bias"


@dataclass(frozen=True)
class CoTuning(Part):
    """The pretrained head stays and is fitted to the source classes that resemble a label."""

    weight: float

    reads = ("relation",)
    source_head = True
    class_labels = True

    def bind(self, anatomy: Anatomy, trainable: Sequence[str]) -> BoundCoTuning:
        check_weight(self.weight)
        return BoundCoTuning(self, anatomy.units[-1])  # also where no unit trains: its own head always does

    def constants(self, start: Start, training: Dataset) -> Constants:
        if training.task != "multiclass":
            raise UserError("cotuning needs one class an image: it is not defined for several labels")
        return {"relation": jnp.asarray(relation(start, training))}

    def shapes(self, features: Mapping[str, Any], params: Mapping[str, Any], classes: int) -> Constants:
        return {"relation": jax.ShapeDtypeStruct((classes, *params[BIAS].shape), np.float32)}


@dataclass(frozen=True)
class BoundCoTuning(BoundPart):
    """The term and the unit that the source head reads."""

    part: CoTuning
    top: str

    @property
    def capture(self) -> tuple[str, ...]:
        return (self.top,)

    def loss(self, seen: Seen) -> Float[Array, ""]:
        logits = pooled(seen.features[self.top]) @ seen.params[KERNEL] + seen.params[BIAS]
        return self.part.weight * source_cross_entropy(logits, seen.labels, seen.constants["relation"])


def source_cross_entropy(
    logits: Float[Array, "n s"], labels: Int[Array, " n"], relation: Float[Array, "classes s"]
) -> Float[Array, ""]:
    """Cross-entropy of the source head against what the source network says of the label's class."""
    return -jnp.mean(jnp.sum(relation[labels] * jax.nn.log_softmax(logits), axis=-1))


def relation(start: Start, training: Dataset) -> Float[np.ndarray, "classes source"]:
    """p(source class | class): the mean of the source network's softmax over the images of a class."""
    kernel, bias = (jnp.asarray(start.variables["params"][SOURCE_HEAD][name]) for name in ("kernel", "bias"))
    top = start.network.units[-1].name

    @jax.jit
    def probabilities(images: Array) -> Array:
        _, captured = start.network.apply(dict(start.variables), start.normalise(images), capture=(top,))
        return jax.nn.softmax(pooled(captured[top]) @ kernel + bias)

    parts = [
        np.asarray(probabilities(batch["image"]), np.float64)[batch["mask"] > 0]
        for batch in eval_batches(training, min(start.batch_size, len(training)))
    ]
    given = np.concatenate(parts)
    means = [given[training.labels == number].mean(axis=0) for number in range(len(training.class_names))]
    return np.stack(means).astype(np.float32)
