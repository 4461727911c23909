"""Training losses: cross-entropies, focal and logit-adjusted, with weights and unknown labels.

A target is a class number, or a distribution over classes (MixUp, smoothing); for several labels 0 to 1
with NaN = unknown. Every loss is a weighted mean of the entries known, so that two mixed images weigh
what they would apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ttl_jax.errors import UserError, nearest
from ttl_jax.typing import Array, Float

NAMES = ("cross_entropy", "focal", "logit_adjusted")


def cross_entropy(
    logits: Float[Array, "n classes"],
    labels: Array,
    class_weights: Float[Array, " classes"],
    gamma: float = 0.0,
    smoothing: float = 0.0,
) -> Float[Array, ""]:
    """Class-weighted softmax cross-entropy: sum(w_y * l) / sum(w_y), as torch's CrossEntropyLoss.

    Args:
        logits: (n, classes).
        labels: int (n,), -1 for a row that does not count, or float (n, classes) summing to 1: then
            sum_c w_c t_c l_c / sum_c w_c t_c.
        class_weights: (classes,).
        gamma: focal exponent: an entry counts (1 - p_y)^gamma times (Lin et al. 2017, eq. 4).
        smoothing: share of the target spread over all classes (Szegedy et al. 2016, section 7).
    """
    classes = logits.shape[-1]
    target = jax.nn.one_hot(labels, classes) if labels.ndim == 1 else labels
    target = target * (1 - smoothing) + smoothing / classes
    if labels.ndim == 1:
        target = jnp.where(labels[:, None] < 0, 0.0, target)  # padding
    log_p = jax.nn.log_softmax(logits)
    losses = -log_p * _focus(log_p, gamma)
    weights = class_weights * target
    total = jnp.sum(weights)
    # Rows of padding alone (a part of an accumulated batch) have a loss of 0, not of 0 / 0.
    return jnp.sum(weights * losses) / jnp.where(total > 0, total, 1.0)


def binary_cross_entropy(
    logits: Float[Array, "n labels"],
    labels: Float[Array, "n labels"],
    pos_weight: Float[Array, " labels"],
    gamma: float = 0.0,
    smoothing: float = 0.0,
) -> Float[Array, ""]:
    """Mean sigmoid cross-entropy over the known entries; NaN marks an unknown label.

    Positive entries weigh `pos_weight`, as torch's BCEWithLogitsLoss.

    Args:
        logits: (n, labels).
        labels: 0 to 1, or NaN.
        pos_weight: (labels,).
        gamma: focal exponent: an entry counts (1 - p of its own side)^gamma times.
        smoothing: share of the target moved to 1/2.
    """
    known = ~jnp.isnan(labels)
    target = jnp.where(known, labels, 0.0) * (1 - smoothing) + smoothing / 2
    log_p, log_q = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    positive = -pos_weight * target * log_p * _focus(log_p, gamma)
    negative = -(1 - target) * log_q * _focus(log_q, gamma)
    return jnp.sum(jnp.where(known, positive + negative, 0.0)) / jnp.maximum(jnp.sum(known), 1)


def _focus(log_p: Array, gamma: float) -> Array | float:
    """(1 - p)^gamma; its slope at p = 1 is finite for gamma between 0 and 1 too."""
    if not gamma:
        return 1.0
    return jnp.maximum(-jnp.expm1(log_p), 1e-7) ** gamma


def log_prior(task: str, frequency: Float[Array, " classes"], tau: float) -> Float[Array, " classes"]:
    """What logit adjustment adds to training logits (Menon et al. 2021, eq. 10).

    tau * log(pi) for one class an image; tau * log(pi / (1 - pi)) for each of several labels, which is
    the same for its two classes. Logits are not adjusted in evaluation.
    """
    if task == "multiclass":
        return tau * jnp.log(frequency)
    return tau * (jnp.log(frequency) - jnp.log1p(-frequency))


def check_loss(config: Any) -> None:
    """Refuses a loss that does not exist.

    Raises:
        UserError: naming the field.
    """
    if config.name not in NAMES:
        raise UserError(f"config loss.name={config.name!r} does not exist{nearest(config.name, NAMES)}")


@dataclass(frozen=True, eq=False)  # as a function: equal to itself alone
class Loss:
    """(logits, labels) -> the weighted mean of the entries known, in float32.

    Attributes:
        task: "multiclass" or "multilabel".
        weights: (classes,) of the classes, or of the positive entries of each label.
        gamma: focal exponent; 0 is plain cross-entropy.
        smoothing: label smoothing.
        shift: added to the logits, from `log_prior`.
    """

    task: str
    weights: Float[Array, " classes"]
    gamma: float = 0.0
    smoothing: float = 0.0
    shift: Float[Array, " classes"] | float = 0.0

    def __call__(self, logits: Array, labels: Array) -> Float[Array, ""]:
        """The loss of these rows."""
        function = cross_entropy if self.task == "multiclass" else binary_cross_entropy
        logits = logits.astype(jnp.float32) + self.shift
        return function(logits, labels, self.weights, self.gamma, self.smoothing)

    def weight(self, labels: Array) -> Float[Array, ""]:
        """What the mean is divided by: means of the parts of a batch, so weighted, are the batch's own."""
        if self.task == "multilabel":
            return jnp.sum(~jnp.isnan(labels)).astype(jnp.float32)
        classes = self.weights.shape[-1]
        target = jax.nn.one_hot(labels, classes) if labels.ndim == 1 else labels  # padding, -1, is all 0
        rows = jnp.sum(target, axis=1, keepdims=True)
        return jnp.sum(self.weights * (target * (1 - self.smoothing) + rows * self.smoothing / classes))


def make_loss(task: str, weights: Float[Array, " classes"], **options: Any) -> Loss:
    """The loss of "multiclass" or "multilabel" data; options as the fields of `Loss`."""
    return Loss(task, weights, **options)
