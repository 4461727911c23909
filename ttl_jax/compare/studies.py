"""Fields shared by the studies of configs/: sizes that a CPU can repeat over seeds and strategies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttl_jax.compare.config import default_config
from ttl_jax.config import set_fields

SETTINGS: Mapping[str, Any] = {
    "compare.keep": "none",
    "compare.folds": "0",  # one split each: three seeds of 28 strategies are two hours already
    "data.image_size": 64,
    "data.train_limit": 400,
    "data.augment": "none",
    "total_epochs": 6.0,
    "eval_every_epochs": 2.0,
}
# Strategies against each other: one network, and three rates for each, of which the best may lie beyond.
STRATEGIES: Mapping[str, Any] = {
    "compare.models": ("efficientnet_lite0",),
    "compare.lrs": (1e-3, 3e-3, 1e-2),
    "compare.extend": 1,
}


def study(*fields: Mapping[str, Any]) -> Any:
    """A comparison's config with `SETTINGS`, and dotted fields of its own on top of these."""
    config = default_config()
    for values in (SETTINGS, *fields):
        set_fields(config, values)
    return config
