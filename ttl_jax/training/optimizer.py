"""From a phase's labels and the config to one optax transformation over the trainable leaves."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from ttl_jax.config.run import OptimizerConfig
from ttl_jax.errors import UserError
from ttl_jax.strategies import FREEZE, LabelledPhase
from ttl_jax.typing import Array, Float


class AdamState(NamedTuple):
    """Adam's state with an age for every leaf.

    Attributes:
        ages: (leaves,) int32, the steps that each leaf of `mu` has been through, in the tree's order. One
            array: a number for every leaf would be a program of its own for each, several times a step.
        mu, nu: the moments, as the parameters.
    """

    ages: Any
    mu: Any
    nu: Any


def scale_by_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """optax's scale_by_adam, but that every leaf counts its own steps.

    So a leaf that joins a label in a later phase has its moments corrected for its own age, while
    the leaves that were there keep theirs.
    """

    def init(params: Any) -> AdamState:
        def zeros() -> Any:  # put there: jnp.zeros is a compilation for every shape
            return jax.tree.map(lambda leaf: jax.device_put(np.zeros(leaf.shape, leaf.dtype)), params)

        ages = jax.device_put(np.zeros(len(jax.tree.leaves(params)), np.int32))
        return AdamState(ages, zeros(), zeros())

    def update(updates: Any, state: AdamState, params: Any = None) -> tuple[Any, AdamState]:
        ages = state.ages + 1
        mu = jax.tree.map(lambda g, m: (1 - b1) * g + b1 * m, updates, state.mu)
        nu = jax.tree.map(lambda g, v: (1 - b2) * jnp.square(g) + b2 * v, updates, state.nu)
        # 1 - b**age without the cancellation that costs float32 three digits in the first steps.
        first, second = (-1 / jnp.expm1(ages * math.log(b)) for b in (b1, b2))
        place = iter(range(len(ages)))

        def direction(m: Any, v: Any) -> Any:
            leaf = next(place)
            return m * first[leaf] / (jnp.sqrt(v * second[leaf]) + eps)

        return jax.tree.map(direction, mu, nu), AdamState(ages, mu, nu)

    return optax.GradientTransformation(init, update)


SMALL = 16384  # values of a leaf; below, the calls for each leaf cost more than a copy of it
LARGE = 1 << 22  # and above it in pieces: XLA:CPU holds the squares of what it is to sum


def global_norm(tree: Any) -> Float[Array, ""]:
    """The Euclidean norm of all leaves together, small ones joined first."""
    leaves = [leaf.ravel() for leaf in jax.tree.leaves(tree)]
    small = [leaf for leaf in leaves if leaf.size < SMALL]
    parts = [jnp.concatenate(small)] if small else []
    total = jnp.zeros(())
    for leaf in leaves:
        whole = leaf.size // LARGE
        if whole:  # in a loop, which holds one piece; side by side XLA copies all of them first
            total = lax.fori_loop(0, whole, partial(_add_piece, leaf), total)
        if leaf.size >= SMALL and leaf.size % LARGE:
            parts.append(leaf[whole * LARGE :])
    return jnp.sqrt(sum((jnp.vdot(part, part) for part in parts), total))


def _add_piece(leaf: Array, number: Array, total: Array) -> Array:
    piece = lax.dynamic_slice_in_dim(leaf, number * LARGE, LARGE)
    return total + jnp.vdot(piece, piece)


def clip_by_global_norm(bound: float) -> optax.GradientTransformation:
    """optax's, with `global_norm`, which a step computes anyway."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        norm = global_norm(updates)
        factor = jnp.where(norm < bound, 1.0, bound / norm)
        return jax.tree.map(lambda update: update * factor.astype(update.dtype), updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def base_transform(config: OptimizerConfig) -> optax.GradientTransformation:
    """The direction of an update, before the learning rate and its sign.

    Args:
        config: the `optimizer` part of a run's config.
    """
    decay = optax.add_decayed_weights(config.weight_decay) if config.weight_decay else None
    if config.name == "sgd":
        parts = [decay, optax.trace(config.momentum) if config.momentum else None]
    else:
        adam = scale_by_adam(config.b1, config.b2, config.eps)
        # Coupled decay enters the moments (torch's Adam), decoupled decay does not (AdamW).
        parts = [decay, adam] if config.name == "adam" else [adam, decay]
    used = [part for part in parts if part is not None]
    return optax.chain(*used) if used else optax.identity()


def gain(config: OptimizerConfig) -> float:
    """Return by how many learning rates a constant gradient of 1 moves a parameter a step, in the limit.

    Args:
        config: the `optimizer` part of a run's config.
    """
    return 1 / (1 - config.momentum) if config.name == "sgd" else 1.0


def make_optimizer(bound: LabelledPhase, config: OptimizerConfig) -> optax.GradientTransformation:
    """Builds the phase's transformation on a flat dict {path: leaf} of trainable leaves.

    The result of its update still has to be multiplied by -learning rate: the rate is an argument
    of the step, so that schedules and plateaus never recompile.
    """
    given = dict(bound.phase.transforms or {})
    labels = {path: label for path, label in bound.labels.items() if label != FREEZE}
    unknown = set(given) - set(labels.values())
    if unknown:
        raise UserError(f"phase {bound.phase.name!r}: transforms for {sorted(unknown)} name no label in use")

    def scale(updates: dict[str, Any], state: Any, params: Any = None) -> tuple[dict[str, Any], Any]:
        return {path: update * bound.scales[path] for path, update in updates.items()}, state

    def empty(params: Any) -> optax.EmptyState:
        return optax.EmptyState()

    grouped = optax.multi_transform({label: base_transform(config) for label in set(labels.values())}, labels)
    # The norm is over trainable leaves: frozen gradients do not exist here.
    clip = [clip_by_global_norm(config.clip)] if config.clip > 0 else []
    slower = any(factor != 1.0 for factor in bound.scales.values())
    scaled = [optax.GradientTransformation(empty, scale)] if slower else []
    # Clipping comes first, as it is about raw gradients; rates come last, as Adam would divide them out.
    # Always three links, so that an entry of the middle one is found at the same place in every phase.
    first, last = (optax.chain(*parts or [optax.identity()]) for parts in (clip, scaled))
    return optax.chain(first, grouped, last)


def carry_over(state: optax.OptState, after: LabelledPhase, fresh: optax.OptState) -> optax.OptState:
    """The optimizer state at the start of a phase: rebuilt only for leaves whose label changed.

    A place in the state is (label, slot, path of the parameter); whatever stands at the same place
    in the phase before is kept: moments and age, unless the phase asks for a reset.
    """
    return fresh if after.phase.reset else _merge(state, fresh)


def _merge(old: Any, new: Any) -> Any:
    """`new` with what stands at the same places in `old`."""
    before = _places(old)

    def at(place: Any, value: Any) -> Any:
        kept = before.get(jax.tree_util.keystr(place), value)
        return _merge_adam(kept, value) if _is_adam(value) else kept

    return jax.tree_util.tree_map_with_path(at, new, is_leaf=_is_adam)


def _merge_adam(old: AdamState, new: AdamState) -> AdamState:
    known = {place: number for number, place in enumerate(_places(old.mu))}
    if not known:
        return new
    number = np.array([known.get(place, -1) for place in _places(new.mu)], np.int32)
    ages = jnp.where(number >= 0, old.ages[number], new.ages)
    return AdamState(ages, _merge(old.mu, new.mu), _merge(old.nu, new.nu))


def _places(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_adam)
    return {jax.tree_util.keystr(place): leaf for place, leaf in leaves}


def _is_adam(node: Any) -> bool:
    return isinstance(node, AdamState)
