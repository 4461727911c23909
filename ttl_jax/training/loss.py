"""Training losses: cross-entropies, focal and logit-adjusted, with weights and unknown labels.

A target is a class number, or a distribution over classes (MixUp, smoothing); for several labels 0 to 1
with NaN = unknown. Every loss is a weighted mean of the entries known, so that two mixed images weigh
what they would apart.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ttl_jax import registry
from ttl_jax.config.run import LossConfig
from ttl_jax.errors import UserError
from ttl_jax.registry import register
from ttl_jax.typing import Array, Float

# (logits, target) -> the loss of each row (multiclass) or entry (multilabel): a loss of the user's own
OwnLoss = Callable[[Array, Array], Array]


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


def own_loss(
    function: OwnLoss,
    task: str,
    logits: Float[Array, "n classes"],
    labels: Array,
    weights: Float[Array, " classes"],
    smoothing: float = 0.0,
) -> Float[Array, ""]:
    """The weighted mean of a loss of the user's own; weights, padding and unknown labels as for the others.

    Args:
        function: (logits, target), both (n, classes), -> (n,) for "multiclass", whose targets sum to 1, or
            (n, classes) for "multilabel".
        task: "multiclass" or "multilabel".
        logits, labels, weights, smoothing: those of `cross_entropy` and `binary_cross_entropy`.

    Raises:
        UserError: it returns another shape.
    """
    if task == "multiclass":
        classes = logits.shape[-1]
        target = jax.nn.one_hot(labels, classes) if labels.ndim == 1 else labels  # padding, -1, is all 0
        rows = jnp.sum(target, axis=1, keepdims=True)
        target = target * (1 - smoothing) + rows * smoothing / classes
        counted = jnp.sum(weights * target, axis=1)
        total = jnp.sum(counted)
    else:
        known = ~jnp.isnan(labels)
        target = jnp.where(known, labels, 0.0) * (1 - smoothing) + smoothing / 2
        counted = jnp.where(known, 1 + (weights - 1) * target, 0.0)
        total = jnp.sum(known).astype(jnp.float32)
    losses = function(logits, target)
    if losses.shape != counted.shape:
        raise UserError(
            f"the loss {getattr(function, '__name__', function)!r} returns an array of shape {losses.shape} "
            f"for logits of {logits.shape}: of {task} data it must be {counted.shape}"
        )
    return jnp.sum(counted * losses) / jnp.where(total > 0, total, 1.0)


def log_prior(task: str, frequency: Float[Array, " classes"], tau: float) -> Float[Array, " classes"]:
    """Return what logit adjustment adds to training logits (Menon et al. 2021, eq. 10).

    tau * log(pi) for one class an image; tau * log(pi / (1 - pi)) for each of several labels, which is
    the same for its two classes. Logits are not adjusted in evaluation.
    """
    if task == "multiclass":
        return tau * jnp.log(frequency)
    return tau * (jnp.log(frequency) - jnp.log1p(-frequency))


@register("loss", "cross_entropy")
def _plain(config: LossConfig, task: str, frequencies: Callable[[], Array]) -> dict[str, Any]:
    return {}


@register("loss", "focal")
def _focal(config: LossConfig, task: str, frequencies: Callable[[], Array]) -> dict[str, Any]:
    return {"gamma": config.gamma}


@register("loss", "logit_adjusted")
def _logit_adjusted(config: LossConfig, task: str, frequencies: Callable[[], Array]) -> dict[str, Any]:
    return {"shift": log_prior(task, frequencies(), config.tau)}


def _entry(config: LossConfig) -> Any:
    return registry.get("loss", config.name, f"config loss.name={config.name!r} does not exist")


def loss_options(config: LossConfig, task: str, frequencies: Callable[[], Array]) -> dict[str, Any]:
    """The fields of `Loss` that a config's loss stands for.

    Args:
        config: a run's `config.loss`.
        task: "multiclass" or "multilabel".
        frequencies: counts the share of each class in the training data, where the loss asks for it.
    """
    entry, smoothing = _entry(config), {"smoothing": config.smoothing}
    if registry.is_own("loss", config.name):
        return smoothing | {"own": entry}
    options: dict[str, Any] = entry(config, task, frequencies)
    return smoothing | options


def check_loss(config: LossConfig) -> None:
    """Refuses a loss that does not exist.

    Raises:
        UserError: naming the field.
    """
    entry = _entry(config)
    if registry.is_own("loss", config.name):
        example = jax.ShapeDtypeStruct((2, 3), jnp.float32)
        try:
            inspect.signature(entry).bind(example, example)
            jax.eval_shape(entry, example, example)
        except Exception as error:
            first = str(error).partition("\n")[0]
            raise UserError(
                f"config loss.name={config.name!r} is no function (logits, target) -> losses of arrays (n, "
                f"classes): {type(error).__name__}: {first}"
            ) from error


@dataclass(frozen=True, eq=False)  # as a function: equal to itself alone
class Loss:
    """(logits, labels) -> the weighted mean of the entries known, in float32.

    Attributes:
        task: "multiclass" or "multilabel".
        weights: (classes,) loss weights of the classes, or of the positive entries of each label.
        gamma: focal exponent; 0 is plain cross-entropy.
        smoothing: label smoothing.
        shift: added to the logits, from `log_prior`.
        own: a loss of the user's in the place of the cross-entropies; `gamma` has no effect then.
    """

    task: str
    weights: Float[Array, " classes"]
    gamma: float = 0.0
    smoothing: float = 0.0
    shift: Float[Array, " classes"] | float = 0.0
    own: OwnLoss | None = None

    def __call__(self, logits: Array, labels: Array) -> Float[Array, ""]:
        """The loss of these rows."""
        function = cross_entropy if self.task == "multiclass" else binary_cross_entropy
        logits = logits.astype(jnp.float32) + self.shift
        if self.own is not None:
            return own_loss(self.own, self.task, logits, labels, self.weights, self.smoothing)
        return function(logits, labels, self.weights, self.gamma, self.smoothing)

    def weight(self, labels: Array) -> Float[Array, ""]:
        """The divisor of the mean. Means of a batch's parts, so weighted, average to the batch's own."""
        if self.task == "multilabel":
            return jnp.sum(~jnp.isnan(labels)).astype(jnp.float32)
        classes = self.weights.shape[-1]
        target = jax.nn.one_hot(labels, classes) if labels.ndim == 1 else labels  # padding, -1, is all 0
        rows = jnp.sum(target, axis=1, keepdims=True)
        return jnp.sum(self.weights * (target * (1 - self.smoothing) + rows * self.smoothing / classes))


def make_loss(task: str, weights: Float[Array, " classes"], **options: Any) -> Loss:
    """The loss of "multiclass" or "multilabel" data; options as the fields of `Loss`."""
    return Loss(task, weights, **options)
