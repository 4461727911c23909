"""The config of a search: that of a run, and the section `search`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ttl_jax.config.fields import Section, another_default, defaults, option
from ttl_jax.config.run import RunConfig
from ttl_jax.engines import ENGINES

if TYPE_CHECKING:
    from ml_collections import ConfigDict


@dataclass(frozen=True)
class SearchOptions(Section):
    """The units that are tried, and how the search goes."""

    kind: str = option(
        "ttl",
        "ttl (cut at a unit), tf (slim above a unit), lwft (freeze up to it) or all (the paper's table)",
        choices=("ttl", "tf", "lwft", "all"),
    )
    method: str = option(
        "bayesian", "bayesian, exhaustive, two_stage or halving (docs/search.md compares them)",
        choices=("bayesian", "exhaustive", "two_stage", "halving"),
    )  # fmt: skip
    units: str = option("", "units to try, as 2-9,12; empty is all of them")
    stages: str = option("", "boundaries that stage one tries, as 4,8,14,17; empty is the network's own")
    weight: float = option(
        0.0, "score that the whole network's price is worth (lambda); 0 selects by score alone", at_least=0
    )
    price: str = option(
        "macs", "price of one image: macs, params or latency (measured, batch 1)",
        choices=("macs", "params", "latency"),
    )  # fmt: skip
    engine: str = option(
        "local", "where trainings run: local (processes of this machine), ray or submitit", choices=ENGINES
    )
    workers: int = option(1, "trainings side by side, each in a process of its own", at_least=1)
    pilot: float = option(
        0.05, "bayesian: share of the training that every unit gets; one validation at least",
        above=0, at_most=1,
    )  # fmt: skip
    rungs: tuple[float, ...] = option(
        (1 / 27, 1 / 9, 1 / 3, 1.0),
        "halving: shares of the training at which curves are compared, none before the first validation",
        above=0, at_most=1,
    )  # fmt: skip
    eta: float = option(2.0, "halving: at each rung the best 1/eta goes on", above=1)
    allowance: float = option(  # .31, for a third on average: small networks need more (docs/search.md)
        0.31, "bayesian, halving: share of the exhaustive search's cost, three trainings at least",
        above=0, at_most=1,
    )  # fmt: skip
    seeds: int = option(
        1, "bayesian, halving, kind=all: trainings of each finalist, with seeds from `seed` on", at_least=1
    )
    finalists: int = option(3, "bayesian, halving: units that get more seeds", at_least=1)
    confidence: float = option(
        0.95,
        "probability that no unit is better by more than the tolerance: it is told, and ends the search",
        above=0,
        below=1,
    )
    tolerance: float = option(0.01, "difference in score that counts as none", above=0)
    preview_images: int = option(1000, "--preview: images of train and val together, at most", at_least=20)


@dataclass(frozen=True)
class SearchConfig(RunConfig):
    """A search, and the trainings that it asks for."""

    training_features: bool = another_default(RunConfig, "training_features", False)  # of so many trials
    # WORKDIR/features holds the outputs of frozen units, computed once for all trials
    cache_disk_gb: float = another_default(RunConfig, "cache_disk_gb", 4.0)
    search: SearchOptions = SearchOptions()


def search_config() -> ConfigDict:
    """Returns the locked ConfigDict of a search with every default, for config files to fill in."""
    return defaults(SearchConfig)
