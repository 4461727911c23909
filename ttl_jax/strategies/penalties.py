"""What is added to the loss: pulls of the parameters towards where they started, or towards zero.

The L2-SP family (Li, Grandvalet and Davoine 2018, eq. 4 to 8): with the new head left to beta,

    Omega(w) = alpha / 2 ||w_S - w_S0||_2^2 + beta / 2 ||w_head||_2^2        L2-SP
    Omega(w) = alpha     ||w_S - w_S0||_1   + beta / 2 ||w_head||_2^2        L1-SP

A strategy holds the terms as data; `bind_pull` finds the paths, and the step adds them up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ttl_jax.errors import UserError
from ttl_jax.strategies.anatomy import Anatomy
from ttl_jax.strategies.select import Where, matches
from ttl_jax.typing import Array, Float

Leaves = Mapping[str, Array]


@dataclass(frozen=True)
class Pull:
    """One term: weight / 2 ||w - w0||_2^2 (norm 2) or weight ||w - w0||_1 (norm 1).

    Attributes:
        where: the leaves it acts on, as far as they train.
        weight: alpha or beta.
        norm: 1 or 2.
        towards: "start" (w0 is the value after the weights were merged) or "zero".
        coupled: a term of the loss, as in the paper; otherwise its gradient joins the update after
            the moments, as AdamW's weight decay does.
    """

    where: Where
    weight: float
    norm: int = 2
    towards: str = "start"
    coupled: bool = True


@dataclass(frozen=True)
class BoundPull:
    """A term and the paths that it acts on in one phase."""

    pull: Pull
    paths: tuple[str, ...]


def bind_pull(pull: Pull, anatomy: Anatomy, trainable: Sequence[str]) -> BoundPull:
    """Finds the paths of a term.

    Raises:
        UserError: a norm that is not 1 or 2, or a negative weight.
    """
    if pull.norm not in (1, 2) or not pull.weight >= 0:
        raise UserError(f"a penalty of norm {pull.norm} and weight {pull.weight}: 1 or 2, and not negative")
    chosen = {leaf.path for leaf in anatomy.leaves if matches(pull.where, leaf, anatomy)}
    return BoundPull(pull, tuple(path for path in trainable if path in chosen))


def anchored(pulls: Sequence[BoundPull]) -> tuple[str, ...]:
    """The paths whose starting values some term needs."""
    return tuple(dict.fromkeys(path for item in pulls if item.pull.towards == "start" for path in item.paths))


def penalty(pulls: Sequence[BoundPull], params: Leaves, anchor: Leaves) -> Float[Array, ""]:
    """The sum of the terms; its gradient is what training adds."""
    total = jnp.float32(0)
    for item in pulls:
        for path in item.paths:
            difference = params[path] - (anchor[path] if item.pull.towards == "start" else 0.0)
            if item.pull.norm == 1:
                total += item.pull.weight * jnp.sum(jnp.abs(difference))
            else:
                total += item.pull.weight / 2 * jnp.sum(jnp.square(difference))
    return total


def pull_gradient(pulls: Sequence[BoundPull], params: Leaves, anchor: Leaves) -> dict[str, Array]:
    """The gradient of `penalty`; zero for leaves on which no term acts."""
    return jax.grad(lambda leaves: penalty(pulls, leaves, anchor))(dict(params))
