"""Training losses: weighted cross-entropy, and binary cross-entropy with unknown labels."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from ttl_jax.typing import Array, Float, Int

Loss = Callable[[Array, Array], Array]


def cross_entropy(
    logits: Float[Array, "n classes"],
    labels: Int[Array, " n"],
    class_weights: Float[Array, " classes"],
) -> Float[Array, ""]:
    """Class-weighted softmax cross-entropy: sum(w_y * l) / sum(w_y), as torch's CrossEntropyLoss."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    weights = class_weights[labels]
    return jnp.sum(weights * losses) / jnp.sum(weights)


def binary_cross_entropy(
    logits: Float[Array, "n labels"],
    labels: Float[Array, "n labels"],
    pos_weight: Float[Array, " labels"],
) -> Float[Array, ""]:
    """Mean sigmoid cross-entropy over the known entries; NaN marks an unknown label.

    Positive entries weigh `pos_weight`, as torch's BCEWithLogitsLoss.
    """
    known = ~jnp.isnan(labels)
    target = jnp.where(known, labels, 0.0)
    positive = -pos_weight * target * jax.nn.log_sigmoid(logits)
    negative = -(1 - target) * jax.nn.log_sigmoid(-logits)
    return jnp.sum(jnp.where(known, positive + negative, 0.0)) / jnp.maximum(jnp.sum(known), 1)


def make_loss(task: str, weights: Float[Array, " classes"]) -> Loss:
    """Chooses the loss for "multiclass" or "multilabel" data, in float32."""
    function = cross_entropy if task == "multiclass" else binary_cross_entropy
    return lambda logits, labels: function(logits.astype(jnp.float32), labels, weights)
