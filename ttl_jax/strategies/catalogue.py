"""The catalogue: every strategy as a few declarative lines.

Each entry is a function of its options that returns a `Strategy`; the docstring names the source.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ttl_jax.errors import UserError, nearest
from ttl_jax.strategies.select import (
    K,
    backbone,
    biases,
    bottom_stages,
    head,
    norms,
    top_stages,
    units,
)
from ttl_jax.strategies.strategy import FREEZE, TRAIN, Phase, Strategy, Surgery, Train


def full() -> Strategy:
    """Full fine-tuning: every parameter trains from the first step (FT; FTL in the TTL paper)."""
    return Strategy("full")


def linear_probe() -> Strategy:
    """The backbone stays at its pretrained values, the new head trains (LP)."""
    return Strategy("linear_probe", phases=(Phase(rules=((head, TRAIN), (backbone, FREEZE)), name="probe"),))


def lp_ft(share: float = 0.3, lr: float = 0.1) -> Strategy:
    """Linear probing, then full fine-tuning from the probed head (Kumar et al. 2022).

    Args:
        share: of the budget, for the probe.
        lr: the second phase's learning rate as a share of the first's.
    """
    return Strategy(
        "lp_ft",
        phases=(
            Phase(rules=((head, TRAIN), (backbone, FREEZE)), until=f"share:{share}", name="probe"),
            Phase(until=f"share:{1 - share}", lr=lr, reset=True, name="finetune"),
        ),
    )


def gradual_last_first() -> Strategy:
    """Gradual unfreezing from the last stage to the first (G-LF, ULMFiT): the head alone, then one
    stage more a phase, down to the stem; equal shares of the budget (Davila et al. 2024).
    """
    open_now = head | top_stages(K)
    return Strategy(
        "gradual_last_first",
        phases=(
            Phase(rules=((head, TRAIN), (backbone, FREEZE)), name="head"),
            Phase(rules=((open_now, TRAIN), (~open_now, FREEZE)), each="stages", name="top stages"),
        ),
    )


def gradual_first_last() -> Strategy:
    """Gradual unfreezing from the first stage to the last (G-FL): head and stem, then one stage more
    a phase, upwards; equal shares of the budget (Davila et al. 2024).
    """
    open_now = head | bottom_stages(K)
    rules = ((open_now, TRAIN), (~open_now, FREEZE))
    return Strategy(
        "gradual_first_last",
        phases=(Phase(rules=rules, each="stages", name="bottom stages"),),
    )


def layerwise(freeze_to: int | str, head_lr: float = 1.0) -> Strategy:
    """Layer-wise fine-tuning (LWFT, Tajbakhsh et al. 2016; TTL paper): units up to `freeze_to` stay,
    those above and the head train.

    Args:
        freeze_to: the last frozen unit, by name or number from the stem.
        head_lr: the head's learning rate over the backbone's (TTL code: 10).
    """
    frozen = units(1, freeze_to)
    return Strategy(
        "layerwise",
        phases=(
            Phase(
                rules=((frozen, FREEZE), (backbone & ~frozen, TRAIN), (head, "head")),
                transforms={"head": Train(lr=head_lr)},
            ),
        ),
    )


def truncated(cut: int | str) -> Strategy:
    """TruncatedTL (Peng et al. 2023): units up to `cut` are kept and fine-tuned, the rest is dropped."""
    return Strategy("truncated", surgery=Surgery(cut=cut))


def transfusion(slim_from: int, slim: int = 2) -> Strategy:
    """TransFusion (Raghu et al. 2019): pretrained bottom, thinner random top, everything trains.

    Args:
        slim_from: residual block (ResNet, 1-based) or dense block from which widths are divided.
        slim: the divisor.
    """
    return Strategy("transfusion", surgery=Surgery(slim_from=slim_from, slim=slim))


def discriminative(decay: float = 2.6, by: str = "stage") -> Strategy:
    """Discriminative learning rates (ULMFiT): each stage (or unit) downwards has the rate of the one
    above divided by `decay`. Refines every phase of what it is added to.
    """
    return Strategy("discriminative", phases=(Phase(decay=(decay, by)),))


def surgical(first: int | str, last: int | str) -> Strategy:
    """Surgical fine-tuning (Lee et al. 2023): one contiguous block of units and the head train."""
    block = units(first, last) | head
    return Strategy("surgical", phases=(Phase(rules=((block, TRAIN), (~block, FREEZE))),))


def bitfit() -> Strategy:
    """Biases, norms and the head train (BitFit, Zaken et al. 2022, for CNNs)."""
    light = biases | norms | head
    return Strategy("bitfit", phases=(Phase(rules=((light, TRAIN), (~light, FREEZE))),))


def scratch() -> Strategy:
    """No pretrained weights: everything starts at random and trains."""
    return Strategy("scratch", surgery=Surgery(init="scratch"))


CATALOGUE: dict[str, Callable[..., Strategy]] = {
    entry.__name__: entry
    for entry in (
        full, linear_probe, gradual_last_first, gradual_first_last, lp_ft, layerwise, transfusion,
        truncated, discriminative, surgical, bitfit, scratch,
    )
}  # fmt: skip


def names() -> tuple[str, ...]:
    """The keys of the catalogue."""
    return tuple(CATALOGUE)


def get(key: str, *arguments: Any, **options: Any) -> Strategy:
    """Returns a strategy by its key.

    Raises:
        UserError: an unknown key (the nearest one is named) or option.
    """
    if key not in CATALOGUE:
        raise UserError(f"there is no strategy {key!r}{nearest(key, names())}")
    entry = CATALOGUE[key]
    try:
        inspect.signature(entry).bind(*arguments, **options)
    except TypeError as error:
        raise UserError(
            f"strategy {key!r}: {error}; it takes {key}{inspect.signature(entry)}".split(" -> ")[0]
        ) from None
    return entry(*arguments, **options)
