"""Pulls of the parameters towards where they started, or towards zero: L2-SP and L1-SP.

The L2-SP family (Li, Grandvalet and Davoine 2018, eq. 4 to 8): with the new head left to beta,

    Omega(w) = alpha / 2 ||w_S - w_S0||_2^2 + beta / 2 ||w_head||_2^2        L2-SP
    Omega(w) = alpha     ||w_S - w_S0||_1   + beta / 2 ||w_head||_2^2        L1-SP

A strategy holds one `Pull` for each term. A coupled term is added to the loss. Any other is a proximal
step after the optimizer's own, of the same size: w becomes

    argmin_z 1/2 ||z - w||_2^2 + size * Omega(z)        size = learning rate * the leaf's multipliers

in closed form: soft-thresholding towards w0 (norm 1), a weighted mean of w and w0 (norm 2).

Why. Adam divides a gradient by the root mean square of those before it. The coupled gradient of norm 1 is
alpha * sign(w - w0) however small the distance is: where it outweighs the data's, Adam makes of it a push of
a full learning rate to and fro, for a small alpha as for a large one, and nothing ever comes to rest at
w0, which is what norm 1 is for. That of norm 2 vanishes near w0, so that coupling does less harm.

Why one size for all coordinates. The proximal operator in Adam's own metric has the threshold
size * alpha / sqrt(v): it grows without bound where gradients vanish, and a network that has converged is
drawn back whole. So the step leaves the moments alone, as decoupled weight decay does (Loshchilov and Hutter
2019; Zhuang et al. 2022 show AdamW to be such a proximal step). Then alpha is held against Adam's
direction, which lies within about [-1, 1]: a coordinate stays at w0 while that is smaller than alpha.

With SGD it is the proximal gradient method on the paper's own objective. Momentum makes the steps of a
constant gradient 1 / (1 - momentum) times as long; so is the size then (`optimizer.gain`), and training
rests where the objective is least.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from ttl_jax.errors import UserError
from ttl_jax.strategies.anatomy import Anatomy
from ttl_jax.strategies.parts.part import BoundPart, Leaves, Part, Seen
from ttl_jax.strategies.select import Where, matches
from ttl_jax.typing import Array, Float


@dataclass(frozen=True)
class Pull(Part):
    """One term: weight / 2 ||w - w0||_2^2 (norm 2) or weight ||w - w0||_1 (norm 1).

    Attributes:
        where: the leaves it acts on, as far as they train.
        weight: alpha or beta.
        norm: 1 or 2.
        towards: "start" (w0 is the value after the weights were merged) or "zero".
        coupled: a term of the loss, as in the paper; otherwise a proximal step after each update.
    """

    where: Where
    weight: float
    norm: int = 2
    towards: str = "start"
    coupled: bool = True

    @property
    def changed(self) -> bool:  # type: ignore[override]
        """Once a decoupled pull was no proximal step."""
        return not self.coupled

    def bind(self, anatomy: Anatomy, trainable: Sequence[str]) -> BoundPull | None:
        if self.norm not in (1, 2) or not self.weight >= 0:
            raise UserError(
                f"a penalty of norm {self.norm} and weight {self.weight}: 1 or 2, and not negative"
            )
        chosen = {leaf.path for leaf in anatomy.leaves if matches(self.where, leaf, anatomy)}
        paths = tuple(path for path in trainable if path in chosen)
        return BoundPull(self, paths) if paths else None


@dataclass(frozen=True)
class BoundPull(BoundPart):
    """A term and the paths that it acts on."""

    part: Pull
    paths: tuple[str, ...]

    @property
    def anchor(self) -> tuple[str, ...]:
        return self.paths if self.part.towards == "start" else ()

    def loss(self, seen: Seen) -> Float[Array, ""] | None:
        if not self.part.coupled:
            return None
        total: Array = jnp.float32(0)
        for path in self.paths:
            difference = seen.params[path] - self._start(path, seen.anchor)
            if self.part.norm == 1:
                total += self.part.weight * jnp.sum(jnp.abs(difference))
            else:
                total += self.part.weight / 2 * jnp.sum(jnp.square(difference))
        return total

    def moved(self, params: Leaves, anchor: Leaves, size_of: Callable[[str], Any]) -> Leaves:
        """The proximal step; a leaf that does not move is not pulled either."""
        if self.part.coupled:
            return params
        pulled = dict(params)
        for path in self.paths:
            start = self._start(path, anchor)
            leaf, strength = pulled[path], size_of(path) * self.part.weight
            difference = leaf - start  # as a change of the leaf: none, to the bit, where the strength is 0
            if self.part.norm == 1:
                nearer = leaf - strength * jnp.sign(difference)
                pulled[path] = jnp.where(jnp.abs(difference) <= strength, start, nearer)
            else:
                pulled[path] = leaf - difference * (strength / (1 + strength))
        return pulled

    def _start(self, path: str, anchor: Leaves) -> Array | float:
        return anchor[path] if self.part.towards == "start" else 0.0
