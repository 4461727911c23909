"""From a phase's labels and the config to one optax transformation over the trainable leaves."""

from __future__ import annotations

from typing import Any

import optax

from ttl_jax.errors import UserError, nearest
from ttl_jax.strategies import FREEZE, LabelledPhase

NAMES = ("adam", "adamw", "sgd")


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
        adam = optax.scale_by_adam(config.b1, config.b2, config.eps)
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

    def scale(updates: dict[str, Any], state: Any, params: Any = None) -> tuple[dict[str, Any], Any]:
        return {path: update * bound.rates[path] for path, update in updates.items()}, state

    grouped = optax.multi_transform({label: base_transform(config) for label in set(labels.values())}, labels)
    # Always three links, so that the middle one's state can be carried into the next phase.
    # The norm is over trainable leaves: frozen gradients do not exist here.
    clip = optax.clip_by_global_norm(config.clip) if config.clip > 0 else optax.identity()
    slower = any(rate != 1.0 for rate in bound.rates.values())
    rates = optax.GradientTransformation(lambda params: optax.EmptyState(), scale)
    return optax.chain(clip, grouped, rates if slower else optax.identity())


def carry_over(
    before: LabelledPhase, state: optax.OptState, after: LabelledPhase, fresh: optax.OptState
) -> optax.OptState:
    """The optimizer state at the start of a phase.

    A label that has the same leaves in both phases keeps its moments and its step count, unless the
    phase asks for a reset. Adam's count belongs to a whole label, so a label that gained a leaf
    starts anew: old counts would leave the new leaf's moments uncorrected.
    """
    if after.phase.reset:
        return fresh

    def leaves(bound: LabelledPhase, label: str) -> set[str]:
        return {path for path, given in bound.labels.items() if given == label}

    clip, grouped, rates = fresh  # type: ignore[misc]
    kept = {
        label: old
        for label, old in state[1].inner_states.items()  # type: ignore[index]
        if label in grouped.inner_states and leaves(before, label) == leaves(after, label)
    }
    return clip, grouped._replace(inner_states={**grouped.inner_states, **kept}), rates
