"""What penalties need besides the batch: measured once from the starting weights and the training data.

All of it is a function of (weights, data, seed), so a resumed run computes the same again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax.data import eval_batches
from ttl_jax.data.dataset import Dataset
from ttl_jax.errors import UserError
from ttl_jax.models import Network
from ttl_jax.strategies import LabelledPhase, flatten
from ttl_jax.strategies.anatomy import SOURCE_HEAD
from ttl_jax.strategies.features import FeatureDistance, SourceTask, pooled
from ttl_jax.strategies.penalties import anchored
from ttl_jax.training.state import fresh
from ttl_jax.typing import Array, Float, Int, Variables

ATTENTION_IMAGES = 64  # a loss for every channel is many forward passes
TEMPERATURE = 5.0  # of DELTA's softmax over z-scores (TLlib)
CHANNELS_AT_ONCE = 16

Constants = dict[str, Any]


def anchor(bound: LabelledPhase, variables: Variables) -> Constants:
    """The starting values that a phase's penalties pull towards; nothing where none does."""
    needed = anchored(bound.pulls)
    start = flatten(variables["params"])
    return {"anchor": {path: fresh(start[path]) for path in needed}} if needed else {}


def weights(bound: LabelledPhase) -> Constants:
    """The weights of a phase's penalties: arguments of its step, so that trials which differ in them alone
    compile to the same program (JAX's persistent cache has it). Nothing where there is none.
    """
    values = [item.pull.weight for item in bound.pulls] + [item.penalty.weight for item in bound.features]
    return {"weights": jnp.asarray(values, jnp.float32)} if values else {}


def weighted(bound: LabelledPhase, values: Any) -> LabelledPhase:
    """The phase with these weights, an array as `weights` gives it."""
    count = len(bound.pulls)
    pulls = tuple(
        replace(item, pull=replace(item.pull, weight=values[number]))
        for number, item in enumerate(bound.pulls)
    )
    features = tuple(
        replace(item, penalty=replace(item.penalty, weight=values[count + number]))
        for number, item in enumerate(bound.features)
    )
    return replace(bound, pulls=pulls, features=features)


def source_constants(
    phases: Sequence[LabelledPhase],
    network: Network,
    variables: Variables,
    training: Dataset,
    normalise: Callable[[Array], Array],
    batch_size: int,
) -> Constants:
    """What the feature penalties of all phases need of the network as it starts.

    Returns:
        "source" (variables), "attention" {unit: (C,)} and "relation" (classes, source classes), each
        only where some phase needs it.

    Raises:
        UserError: co-tuning on labels that are not one class an image.
    """
    terms = [item for bound in phases for item in bound.features]
    constants: Constants = {}
    distances = [item for item in terms if isinstance(item.penalty, FeatureDistance)]
    if distances:
        constants["source"] = jax.tree.map(fresh, dict(variables))
        units = tuple(dict.fromkeys(unit for item in distances for unit in item.units))
        kinds = {item.penalty.attention for item in distances}  # type: ignore[union-attr]
        measured = "measured" in kinds
        constants["attention"] = attention(network, variables, units, training, normalise, measured)
    if any(isinstance(item.penalty, SourceTask) for item in terms):
        if training.task != "multiclass":
            raise UserError("cotuning needs one class an image: it is not defined for several labels")
        constants["relation"] = jnp.asarray(relation(network, variables, training, normalise, batch_size))
    return constants


def relation(
    network: Network,
    variables: Variables,
    training: Dataset,
    normalise: Callable[[Array], Array],
    batch_size: int,
) -> Float[np.ndarray, "classes source"]:
    """p(source class | class): the mean of the source network's softmax over the images of a class."""
    kernel, bias = (jnp.asarray(variables["params"][SOURCE_HEAD][name]) for name in ("kernel", "bias"))
    top = network.units[-1].name

    @jax.jit
    def probabilities(images: Array) -> Array:
        _, captured = network.apply(dict(variables), normalise(images), capture=(top,))  # type: ignore[misc]
        return jax.nn.softmax(pooled(captured[top]) @ kernel + bias)

    parts = [
        np.asarray(probabilities(batch["image"]), np.float64)[batch["mask"] > 0]
        for batch in eval_batches(training, min(batch_size, len(training)))
    ]
    given = np.concatenate(parts)
    means = [given[training.labels == number].mean(axis=0) for number in range(len(training.class_names))]
    return np.stack(means).astype(np.float32)


def attention(
    network: Network,
    variables: Variables,
    units: Sequence[str],
    training: Dataset,
    normalise: Callable[[Array], Array],
    measured: bool,
) -> dict[str, Array]:
    """DELTA's weight of every channel: softmax of the standardised rise of the loss without it, over 5.

    The loss is that of a logistic regression (scikit-learn's default) fitted to the starting
    network's features of up to 64 training images, taken evenly from the split. Where not
    `measured`, every channel weighs the same.
    """
    count = min(ATTENTION_IMAGES, len(training))
    chosen = np.linspace(0, len(training) - 1, count).round().astype(np.int64)
    images = normalise(jnp.asarray(training.images.read(chosen)))
    bare = Network(network.units, type(network.head)("gap", 0), network.dtype)
    held = dict(variables)
    features, captured = jax.jit(lambda images: bare.apply(held, images, capture=tuple(units)))(images)  # type: ignore[misc]
    if not measured:
        return {unit: jnp.full(captured[unit].shape[-1], 1 / captured[unit].shape[-1]) for unit in units}
    if training.task != "multiclass":
        raise UserError("delta(attention='measured') needs one class an image; use attention='uniform'")
    score = probe_loss(np.asarray(features), np.asarray(training.labels)[chosen])
    weights = {}
    for unit in units:
        rises = _losses_without(bare, held, unit, captured[unit], score) - score(features)
        weights[unit] = jax.nn.softmax((rises - rises.mean()) / (rises.std() + 1e-12) / TEMPERATURE)
    return weights


def probe_loss(features: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]) -> Callable[[Array], Array]:
    """Fits a linear probe, and returns features -> its mean cross-entropy on these labels."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    classes, target = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise UserError("delta: the training images sampled for its attention hold one class only")
    scaler = StandardScaler().fit(features)
    fitted = LogisticRegression(max_iter=1000).fit(scaler.transform(features), target)
    kernel, bias = fitted.coef_, fitted.intercept_
    if len(classes) == 2:  # one row for the second class: the first one's logit is 0
        kernel, bias = np.stack([np.zeros_like(kernel[0]), kernel[0]]), np.array([0.0, bias[0]])
    mean, scale = jnp.asarray(scaler.mean_, jnp.float32), jnp.asarray(scaler.scale_, jnp.float32)

    def loss(features: Array) -> Array:
        logits = (features - mean) / scale @ jnp.asarray(kernel.T, jnp.float32) + jnp.asarray(
            bias, jnp.float32
        )
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(target)), target])

    return loss


def _losses_without(
    bare: Network,
    variables: Mapping[str, Any],
    unit: str,
    features: Float[Array, "n *space c"],
    score: Callable[[Array], Array],
) -> Float[Array, " c"]:
    """The loss with each channel of a unit set to zero in turn."""
    channels = features.shape[-1]

    @jax.jit
    def without(numbers: Array) -> Array:
        def one(number: Array) -> Array:
            kept = jnp.arange(channels) != number
            return score(bare.apply(variables, features * kept, after=unit))  # type: ignore[arg-type]

        return jax.lax.map(one, numbers, batch_size=CHANNELS_AT_ONCE)

    return without(jnp.arange(channels))
