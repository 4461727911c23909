"""The function that is exported: uint8 images in, calibrated probabilities out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.extend import core

from ttl_jax.data.augment import test_time
from ttl_jax.evaluation.probability import Task
from ttl_jax.models import Network, cpu
from ttl_jax.models.unit import Build, UnitSpec
from ttl_jax.training.result import Result
from ttl_jax.typing import Array, Float, UInt8
from ttl_jax.weights import Preprocessing


@dataclass(frozen=True, eq=False)
class Forward:
    """A trained network with all that stands between an image's pixels and its probabilities.

    Attributes:
        name: of the network, as `models.create` takes it.
        network, variables: the trained network, which computes in float32 here whatever it was trained in.
        preprocessing: normalisation of the images.
        shape: of one image, (S, S, 3) or (D, S, S, 3).
        class_names: order of the probabilities.
        task: "multiclass" (softmax) or "multilabel" (a sigmoid a label).
        temperature: logits are divided by it.
        tta: views whose logits are averaged (`data.augment.test_time`).
    """

    name: str
    network: Network
    variables: Mapping[str, Any]
    preprocessing: Preprocessing
    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    task: Task = "multiclass"
    temperature: float = 1.0
    tta: str = "none"

    def logits(
        self, variables: Mapping[str, Any], images: UInt8[Array, "n *image"]
    ) -> Float[Array, "n classes"]:
        """Calibrated logits."""
        views = [view(images) for view in test_time.views(self.tta)]
        stacked = jnp.concatenate(views) if len(views) > 1 else images
        logits: Array = in_float32(self.network).apply(  # type: ignore[assignment]  # no other collections
            variables, self.preprocessing.normalise(stacked)
        )
        if len(views) > 1:
            logits = logits.reshape(len(views), -1, logits.shape[-1]).mean(0)
        return logits if self.temperature == 1 else logits / self.temperature

    def probabilities(
        self, variables: Mapping[str, Any], images: UInt8[Array, "n *image"]
    ) -> Float[Array, "n classes"]:
        """Probabilities: softmax, or a sigmoid a label."""
        activation = jax.nn.softmax if self.task == "multiclass" else jax.nn.sigmoid
        return activation(self.logits(variables, images))

    def __call__(self, images: UInt8[np.ndarray, "n *image"]) -> Float[np.ndarray, "n classes"]:
        """Probabilities, computed by JAX here."""
        return np.asarray(jax.jit(self.probabilities)(self.variables, images))

    def specification(self, batch: int | None = None) -> jax.ShapeDtypeStruct:
        """The argument's shape and type; the batch is a symbol where it is None."""
        (symbol,) = export.symbolic_shape("n")
        return jax.ShapeDtypeStruct((batch or symbol, *self.shape), jnp.uint8)

    def trace(self) -> core.ClosedJaxpr:
        """The program of `logits`, of JAX's own operations, for any batch."""
        with cpu.disabled():
            return jax.make_jaxpr(partial(self.logits, self.variables))(self.specification())


def forward_of(run: Result) -> Forward:
    """The function that a finished run's export computes."""
    known = run.signature
    return Forward(
        known.network.name,
        run.model,
        jax.device_get(dict(run.variables)),
        known.normalisation,
        known.geometry.shape,
        known.class_names,
        known.task,
        known.temperature,
        known.tta,
    )


def in_float32(network: Network) -> Network:
    """The same network, computing in float32."""

    def part(built: Build) -> Build:
        fields = ((key, jnp.float32 if key == "dtype" else value) for key, value in built.fields)
        return replace(built, fields=tuple(fields))

    def spec(unit: UnitSpec) -> UnitSpec:
        return replace(unit, parts=tuple((path, part(built)) for path, built in unit.parts))

    return network.clone(units=tuple(map(spec, network.units)), dtype=jnp.float32)
