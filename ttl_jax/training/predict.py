"""Logits of a whole data set: padded batches, each example exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax.data import views
from ttl_jax.typing import Array, Float

Predict = Callable[[Mapping[str, Any], Array | np.ndarray], Array]


def make_predict(
    network: nn.Module, normalise: Callable[[Array], Array], after: str | None = None, tta: str = "none"
) -> Predict:
    """Builds the jitted function (variables, images uint8 (N, S, S, C)) -> logits (N, classes).

    With `after` it takes the outputs of that unit instead of images. `tta` names the views over which
    logits are averaged (`data.views`).
    """

    @jax.jit
    def predict(variables: Mapping[str, Any], images: Array | np.ndarray) -> Array:
        def one(view: Array) -> Array:
            return network.apply(variables, view, train=False, after=after)  # type: ignore[return-value]

        return views.average(one, normalise(jnp.asarray(images)), tta)

    return predict


def logits_of(
    predict: Predict, variables: Mapping[str, Any], batches: Iterable[dict[str, np.ndarray]]
) -> Float[np.ndarray, "n classes"]:
    """Runs a data set's padded batches through the network and drops the padding.

    One batch is always under way on the device while the previous one is copied to the host.
    """
    run = partial(predict, dict(variables))
    parts: list[np.ndarray] = []
    pending: tuple[Any, np.ndarray] | None = None
    for batch in batches:
        ahead = (run(batch["image"]), batch["mask"])
        if pending is not None:
            parts.append(np.asarray(pending[0], np.float32)[pending[1] > 0])
        pending = ahead
    if pending is not None:
        parts.append(np.asarray(pending[0], np.float32)[pending[1] > 0])
    return np.concatenate(parts)
