"""From a phase's labels and the config to one optax transformation over the trainable leaves."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ttl_jax.errors import UserError, nearest
from ttl_jax.strategies import FREEZE, LabelledPhase
from ttl_jax.strategies.penalties import pull_gradient

NAMES = ("adam", "adamw", "sgd")


class AdamState(NamedTuple):
    """Adam's state with a step count for every leaf."""

    count: Any
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

        return AdamState(jax.tree.map(lambda leaf: jnp.int32(0), params), zeros(), zeros())

    def update(updates: Any, state: AdamState, params: Any = None) -> tuple[Any, AdamState]:
        count = jax.tree.map(lambda age: age + 1, state.count)
        mu = jax.tree.map(lambda g, m: (1 - b1) * g + b1 * m, updates, state.mu)
        nu = jax.tree.map(lambda g, v: (1 - b2) * jnp.square(g) + b2 * v, updates, state.nu)

        def direction(m: Any, v: Any, age: Any) -> Any:
            # 1 - b**age without the cancellation that costs float32 three digits in the first steps.
            first, second = (-jnp.expm1(age * math.log(b)) for b in (b1, b2))
            return (m / first) / (jnp.sqrt(v / second) + eps)

        return jax.tree.map(direction, mu, nu, count), AdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def base_transform(config: Any) -> optax.GradientTransformation:
    """The direction of an update, before the learning rate and its sign.

    Args:
        config: the `optimizer` part of a run's config.

    Raises:
        UserError: an unknown optimizer.
    """
    decay = optax.add_decayed_weights(config.weight_decay) if config.weight_decay else None
    if config.name == "sgd":
        parts = [decay, optax.trace(config.momentum) if config.momentum else None]
    elif config.name in ("adam", "adamw"):
        adam = scale_by_adam(config.b1, config.b2, config.eps)
        # Coupled decay enters the moments (torch's Adam), decoupled decay does not (AdamW).
        parts = [decay, adam] if config.name == "adam" else [adam, decay]
    else:
        raise UserError(f"config optimizer.name={config.name!r}{nearest(config.name, NAMES)}")
    used = [part for part in parts if part is not None]
    return optax.chain(*used) if used else optax.identity()


def make_optimizer(bound: LabelledPhase, config: Any) -> optax.GradientTransformation:
    """Builds the phase's transformation on a flat dict {path: leaf} of trainable leaves.

    The result of its update still has to be multiplied by -learning rate: the rate is an argument
    of the step, so that schedules and plateaus never recompile.
    """
    given = dict(bound.phase.transforms or {})
    labels = {path: label for path, label in bound.labels.items() if label != FREEZE}
    unknown = set(given) - set(labels.values())
    if unknown:
        raise UserError(f"phase {bound.phase.name!r}: transforms for {sorted(unknown)} name no label in use")

    apart = tuple(item for item in bound.pulls if not item.pull.coupled and item.paths)

    def pull(updates: dict[str, Any], state: Any, params: Any = None, *, anchor: Any = None, **_: Any) -> Any:
        added = pull_gradient(apart, params, anchor)
        return {path: update + added[path] for path, update in updates.items()}, state

    def scale(updates: dict[str, Any], state: Any, params: Any = None) -> tuple[dict[str, Any], Any]:
        return {path: update * bound.scales[path] for path, update in updates.items()}, state

    def empty(params: Any) -> optax.EmptyState:
        return optax.EmptyState()

    grouped = optax.multi_transform({label: base_transform(config) for label in set(labels.values())}, labels)
    # The norm is over trainable leaves: frozen gradients do not exist here.
    clip = [optax.clip_by_global_norm(config.clip)] if config.clip > 0 else []
    pulled = [optax.GradientTransformationExtraArgs(empty, pull)] if apart else []
    slower = any(factor != 1.0 for factor in bound.scales.values())
    scaled = [optax.GradientTransformation(empty, scale)] if slower else []
    # Always three links, so that an entry of the middle one is found at the same place in every phase.
    first, last = (optax.chain(*parts or [optax.identity()]) for parts in (clip, pulled + scaled))
    return optax.chain(first, grouped, last)


def carry_over(state: optax.OptState, after: LabelledPhase, fresh: optax.OptState) -> optax.OptState:
    """The optimizer state at the start of a phase: rebuilt only for leaves whose label changed.

    A place in the state is (label, slot, path of the parameter); whatever stands at the same place
    in the phase before is kept: moments and age, unless the phase asks for a reset.
    """
    if after.phase.reset:
        return fresh
    kept = {jax.tree_util.keystr(place): value for place, value in jax.tree_util.tree_leaves_with_path(state)}
    return jax.tree_util.tree_map_with_path(
        lambda place, value: kept.get(jax.tree_util.keystr(place), value), fresh
    )
