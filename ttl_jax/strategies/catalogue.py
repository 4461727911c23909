"""The catalogue: every strategy as a few declarative lines.

Each entry is a function of its options that returns a `Strategy`; the docstring names the source.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ttl_jax.errors import UserError, nearest
from ttl_jax.strategies.select import backbone, head
from ttl_jax.strategies.strategy import FREEZE, TRAIN, Phase, Strategy


def full() -> Strategy:
    """Full fine-tuning: every parameter trains from the first step (FT; FTL in the TTL paper)."""
    return Strategy("full")


def linear_probe() -> Strategy:
    """The backbone stays at its pretrained values, the new head trains (LP)."""
    return Strategy("linear_probe", phases=(Phase(rules=((head, TRAIN), (backbone, FREEZE)), name="probe"),))


CATALOGUE: dict[str, Callable[..., Strategy]] = {entry.__name__: entry for entry in (full, linear_probe)}


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
