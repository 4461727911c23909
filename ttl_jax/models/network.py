"""The one generic network: units in order, then a head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ttl_jax.errors import UserError
from ttl_jax.models.layers.basic import Dense, Dropout, global_average_pool
from ttl_jax.models.layers.flatten import flat_map
from ttl_jax.models.unit import Build, UnitSpec
from ttl_jax.typing import Array, Float

HEADS = ("gap", "flatten", "mlp")
MLP_WIDTH = 512


@dataclass(frozen=True)
class Head:
    """The head on the last unit.

    Attributes:
        kind: "gap" (global average pool, linear), "flatten" (linear on the whole map) or "mlp"
            (pool, hidden layer of 512 with ReLU, linear).
        classes: outputs; 0 gives the pooled features.
        dropout: rate before the last linear layer.
        flat_size: values that "flatten" pools a larger map down to, about; None = never.
    """

    kind: str
    classes: int
    dropout: float = 0.0
    flat_size: int | None = None


class Group(nn.Module):
    """A name in the parameter path: "stage3" above "stage3/block2"."""

    @nn.compact
    def __call__(self, path: str, build: Build, x: Array, moving: bool, keys: Array | None) -> Array:
        first, _, rest = path.partition("/")
        if rest:
            return Group(name=first)(rest, build, x, moving, keys)
        return build(first)(x, moving=moving, keys=keys)


class MlpHead(nn.Module):
    """Hidden layer with ReLU, dropout, linear."""

    classes: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "n c"], keys: Array | None) -> Float[Array, "n classes"]:
        x = nn.relu(Dense(MLP_WIDTH, self.dtype, name="hidden")(x))
        return Dense(self.classes, self.dtype, name="out")(Dropout(self.dropout, name="drop")(x, keys))


class Network(nn.Module):
    """A backbone, possibly cut, with its head.

    Attributes:
        units: the units, bottom to top.
        head: the head on the last unit.
        dtype: compute type of images and head (units carry their own).
        dimensions: number of spatial dimensions: 2 for images, 3 for volumes.
    """

    units: tuple[UnitSpec, ...]
    head: Head
    dtype: Any = jnp.float32
    dimensions: int = 2

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "n *space channels"],
        train: bool = False,
        still: Sequence[str] = (),
        capture: Sequence[str] = (),
        keys: Array | None = None,
        after: str | None = None,
    ) -> Any:
        """Computes logits.

        Args:
            images: normalised images (N, H, W, C) or (N, D, H, W, C); with `after`, the features
                of that unit instead.
            train: BatchNorms use and update batch statistics, dropout is on where keys are given.
            still: units that run in inference mode although train is True; "head" for its dropout.
            capture: units whose outputs come back too.
            keys: (N,) typed PRNG keys, one an example; None switches dropout off.
            after: skip this unit and all below it (cached features).

        Returns:
            logits (N, classes), or pooled features (N, C) when the head has no classes; with
            `capture`, the pair (logits, {unit: features}).

        Raises:
            UserError: volumes for a 2D network or images for a 3D one, or images so small that a unit
                leaves nothing of them.
        """
        if after is None and images.ndim != self.dimensions + 2:
            wanted = "volumes (N, D, H, W, C)" if self.dimensions == 3 else "images (N, H, W, C)"
            raise UserError(f"this network takes {wanted}, and was given an array of shape {images.shape}")
        x = images.astype(self.dtype)
        groups: dict[str, Group] = {}
        captured: dict[str, Array] = {}
        names = [spec.name for spec in self.units]
        skipped = set() if after is None else set(names[: names.index(after) + 1])
        for spec in self.units:
            if spec.name in skipped and not self.is_initializing():
                continue
            moving = train and spec.name not in still
            for path, build in spec.parts:
                first, _, rest = path.partition("/")
                unit_keys = keys if moving else None
                if rest:
                    if first not in groups:
                        groups[first] = Group(name=first)
                    x = groups[first](rest, build, x, moving, unit_keys)
                else:
                    x = build(path)(x, moving=moving, keys=unit_keys)
            if 0 in x.shape[1:]:
                raise UserError(
                    f"images of {images.shape[1:-1]} are too small: nothing is left of them at unit "
                    f"{spec.name!r}; use larger ones, or a cut below it"
                )
            if spec.name in capture:
                captured[spec.name] = x
        logits = self._head(x, keys if train and "head" not in still else None)
        return (logits, captured) if capture else logits

    def pooled(self) -> Network:
        """The network without its last layers: it gives the pooled features of the last unit, (N, C)."""
        return self.clone(head=replace(self.head, classes=0))

    def _head(self, x: Array, keys: Array | None) -> Array:
        kind, classes, rate = self.head.kind, self.head.classes, self.head.dropout
        if x.ndim > 2:
            flat = kind == "flatten" and classes > 0
            x = flat_map(x, self.head.flat_size) if flat else global_average_pool(x)
        if classes == 0:
            return x
        if kind == "mlp":
            return MlpHead(classes, rate, self.dtype, name="head")(x, keys)
        return Dense(classes, self.dtype, name="head")(Dropout(rate, name="drop")(x, keys))
