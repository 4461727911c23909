"""Compiled programs kept from one run to the next of the same process.

A sweep trains the same network with other seeds and learning rates, and neither is a constant of a
compiled program: the second such run need not trace, lower or load anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import jax

from ttl_jax import data, strategies

# What the programs take as an argument, or never see.
ARGUMENTS = ("seed", "optimizer.lr", "evaluate_test", "report_images", "loggers")

T = TypeVar("T")


@dataclass
class Programs:
    """The programs of runs that differ in `ARGUMENTS` alone; it holds those of one config at a time.

    Attributes:
        owner: the config that they belong to, without `ARGUMENTS`.
        made: program by key.
    """

    owner: str = ""
    made: dict[Hashable, Any] = field(default_factory=dict)

    def claim(self, config: Any) -> None:
        """Forgets what another config left, JAX's own caches too: they would grow to gigabytes."""
        values = config.to_dict()
        for name in ARGUMENTS:
            *path, last = name.split(".")
            place = values
            for part in path:
                place = place[part]
            del place[last]
        owner = json.dumps(values, sort_keys=True, default=str)
        if self.made and owner != self.owner:
            self.made.clear()
            jax.clear_caches()
        self.owner = owner

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The program of that key, made now if it is not there."""
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]


def one_program(config: Any) -> bool:
    """Whether runs of this config may be trained together: one phase of steps on features that stay.

    That only the head trains, in the end, is known when the strategy meets its network.
    """
    strategy = strategies.parse(config.strategy)
    return (
        len(strategy.phases) == 1
        and strategy.phases[0].solver is None
        and strategy.after is None
        and not strategy.penalties
        and not data.parse_augment(config.data.augment)
        and not data.parse_mix(config.data.mix)
        and config.data.sampling == "uniform"
        and config.cache_features
        and config.schedule.name != "plateau"
        and config.early_stop.patience == 0
        and config.nan_skip == 0
        and config.parallel.accumulate == 1
        and config.parallel.hosts == "one"
    )
