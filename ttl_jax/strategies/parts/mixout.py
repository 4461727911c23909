"""Mixout (Lee, Cho and Kang 2020): in every forward pass pretrained weights come back at random.

    w' = (m w0 + (1 - m) w - p w0) / (1 - p)        m ~ Bernoulli(p), drawn for each weight and step

so that the mean of w' is w. Dropout is the case w0 = 0; the pull towards w0 is adaptive, as a penalty
||w - w0||^2 whose strength grows with p (their theorem 1). Only weights that are not mixed have a gradient.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ttl_jax.errors import UserError
from ttl_jax.strategies.anatomy import Anatomy
from ttl_jax.strategies.parts.part import BoundPart, Draw, Leaves, Part
from ttl_jax.typing import Array, Float


@dataclass(frozen=True)
class Mixout(Part):
    """Mixes every trained leaf of the backbone with its start; p is the probability of the start."""

    p: float

    slot = "mixout"

    def bind(self, anatomy: Anatomy, trainable: Sequence[str]) -> BoundMixout | None:
        if not 0 <= self.p < 1:
            raise UserError(f"mixout: p={self.p} must be at least 0 and below 1")
        backbone = {leaf.path for leaf in anatomy.leaves if leaf.unit != anatomy.head}
        paths = tuple(path for path in trainable if path in backbone)
        return BoundMixout(self, paths) if paths and self.p else None


@dataclass(frozen=True)
class BoundMixout(BoundPart):
    """Mixout of these paths."""

    part: Mixout
    paths: tuple[str, ...]

    @property
    def anchor(self) -> tuple[str, ...]:
        return self.paths

    def parameters(self, params: Leaves, anchor: Leaves, draw: Draw) -> Leaves:
        key = draw()
        return {**params, **{path: self._mixed(params[path], anchor[path], key, path) for path in self.paths}}

    def _mixed(
        self, leaf: Float[Array, "*shape"], start: Float[Array, "*shape"], key: Array, path: str
    ) -> Float[Array, "*shape"]:
        key = jax.random.fold_in(key, zlib.crc32(f"mixout/{path}".encode()))
        back = jax.random.bernoulli(key, self.part.p, leaf.shape)
        return (jnp.where(back, start, leaf) - self.part.p * start) / (1 - self.part.p)
