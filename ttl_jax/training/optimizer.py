"""From a phase's labels and the config to one optax transformation over the trainable leaves."""

from __future__ import annotations

from typing import Any

import optax

from ttl_jax.errors import UserError, nearest
from ttl_jax.strategies import FREEZE, LabelledPhase, Train

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

    def transform(train: Train) -> optax.GradientTransformation:
        rate = () if train.lr == 1.0 else (optax.scale(train.lr),)
        return optax.chain(base_transform(config), *rate)

    grouped = optax.multi_transform(
        {label: transform(given[label] if label in given else Train()) for label in set(labels.values())},
        labels,
    )
    if config.clip > 0:  # the norm is over trainable leaves: frozen gradients do not exist here
        return optax.chain(optax.clip_by_global_norm(config.clip), grouped)
    return grouped
