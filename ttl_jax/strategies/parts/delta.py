"""DELTA: the feature maps of every stage stay near those of the starting network (Li et al. 2019).

    weight / 2 * mean_n sum_u sum_c C_u a_uc ||F_nuc - F0_nuc||^2 / P_u

F_nuc is a map of unit u with C_u channels and P_u positions, F0 the same map of the network as it started
(the scaling is TLlib's). The attention a_u is DELTA's weight of every channel: the softmax of the
standardised rise of the loss without it, over 5; or 1 / C_u.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax.data.dataset import Dataset
from ttl_jax.errors import UserError
from ttl_jax.models import Network
from ttl_jax.strategies.anatomy import Anatomy
from ttl_jax.strategies.parts.feature_penalty import check_weight, moving
from ttl_jax.strategies.parts.part import BoundPart, Constants, Part, Seen, Start
from ttl_jax.typing import Array, Float, Int

ATTENTIONS = ("measured", "uniform")
IMAGES = 64  # for the attention: a loss for every channel is many forward passes
TEMPERATURE = 5.0  # of the softmax over z-scores (TLlib)
CHANNELS_AT_ONCE = 16


@dataclass(frozen=True)
class FeatureDistance(Part):
    """Keeps the feature maps of every stage near those of the starting network.

    Attributes:
        weight: alpha.
        attention: "measured" (a channel weighs what its loss costs the task) or "uniform" (1 / C).
    """

    weight: float
    attention: str

    @property
    def name(self) -> str:
        """Of the constant that holds the attention."""
        return f"{self.attention} attention"

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.name,)

    def bind(self, anatomy: Anatomy, trainable: Sequence[str]) -> BoundDistance | None:
        check_weight(self.weight)
        if self.attention not in ATTENTIONS:
            raise UserError(f"delta: attention={self.attention!r} is not one of {ATTENTIONS}")
        wanted = anatomy.stage_tops[1:] or anatomy.stage_tops  # the stem's map is nearly the image
        units = moving(wanted, anatomy, trainable)
        return BoundDistance(self, units) if units else None

    def constants(self, start: Start, training: Dataset) -> Constants:
        return {self.name: attention(start, training, self.attention == "measured")}

    def shapes(self, features: Mapping[str, Any], params: Mapping[str, Any], classes: int) -> Constants:
        return {
            self.name: {
                unit: jax.ShapeDtypeStruct(leaf.shape[-1:], np.float32) for unit, leaf in features.items()
            }
        }


@dataclass(frozen=True)
class BoundDistance(BoundPart):
    """The term and the units that it compares, bottom to top."""

    part: FeatureDistance
    units: tuple[str, ...]

    @property
    def capture(self) -> tuple[str, ...]:
        return self.units

    @property
    def source(self) -> tuple[str, ...]:
        return self.units

    def loss(self, seen: Seen) -> Float[Array, ""]:
        distances = [
            feature_distance(seen.features[unit], seen.source[unit], seen.constants[self.part.name][unit])
            for unit in self.units
        ]
        return self.part.weight * jnp.sum(jnp.stack(distances))


def feature_distance(
    features: Float[Array, "n *space c"], source: Float[Array, "n *space c"], attention: Float[Array, " c"]
) -> Float[Array, ""]:
    """Half the attended squared distance of one unit's maps, mean over examples."""
    channels = features.shape[-1]
    difference = features.astype(jnp.float32) - jax.lax.stop_gradient(source.astype(jnp.float32))
    positions = difference.size // (difference.shape[0] * channels)
    energy = jnp.sum(jnp.square(difference), axis=tuple(range(1, difference.ndim - 1)))
    return 0.5 * jnp.mean(energy @ attention) * channels / positions


def attention(start: Start, training: Dataset, measured: bool) -> dict[str, Array]:
    """DELTA's weight of every channel of the units to compare: {unit: (C,)}, summing to 1.

    The loss is that of a logistic regression (scikit-learn's default) fitted to the starting
    network's features of up to 64 training images, taken evenly from the split. Where not
    `measured`, every channel weighs the same.

    Raises:
        UserError: a measured one with labels that are not one class an image.
    """
    network, units, held = start.network, start.units, dict(start.variables)
    count = min(IMAGES, len(training))
    chosen = np.linspace(0, len(training) - 1, count).round().astype(np.int64)
    images = start.normalise(jnp.asarray(training.images.read(chosen)))
    bare = Network(network.units, type(network.head)("gap", 0), network.dtype)
    features, captured = jax.jit(lambda images: bare.apply(held, images, capture=units))(images)
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
            return score(jnp.asarray(bare.apply(variables, features * kept, after=unit)))

        losses: Array = jax.lax.map(one, numbers, batch_size=CHANNELS_AT_ONCE)
        return losses

    losses: Array = without(jnp.arange(channels))
    return losses
