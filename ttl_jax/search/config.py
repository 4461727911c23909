"""The config of a search: that of a run (ttl_jax/config/run.py) and a `search` part of its own."""

from __future__ import annotations

from typing import Any

from ttl_jax.config import default_config


def search_config() -> Any:
    """Returns the locked ConfigDict of a search with every default."""
    from ml_collections import ConfigDict

    config = default_config().unlock()
    config.cache_disk_gb = 4.0  # WORKDIR/features: frozen units' outputs, computed once for all trials
    search = config.search = ConfigDict()
    search.kind = "ttl"  # "ttl" (cut at a unit), "tf" (slim above a unit), "lwft" (freeze up to it), "all"
    search.method = "bayesian"  # "bayesian", "exhaustive", "two_stage" or "halving" (docs/search.md)
    search.units = ""  # which units to try, as "2-9,12"; "" is all of them
    search.stages = ""  # boundaries that stage one tries, as "4,8,14,17"; "" is the network's own
    search.weight = 0.0  # lambda: what score the whole network's price is worth; 0 = score alone
    search.price = "macs"  # of one image: "macs", "params" or "latency" (measured, batch 1)
    search.engine = "local"  # where trials run: "local", "ray" or "submitit"
    search.workers = 1  # trials side by side, each in a process of its own
    search.pilot = 0.05  # bayesian: share of the training that every unit gets; one validation at least
    # halving: shares of the training at which curves are compared; none comes before the first validation
    search.rungs = (1 / 27, 1 / 9, 1 / 3, 1.0)
    search.eta = 2.0  # halving: at each rung the best 1/eta goes on (docs/search.md)
    search.allowance = 1 / 3  # bayesian, halving: share of the exhaustive cost, three trainings at least
    search.seeds = 1  # bayesian, halving, kind=all: trainings of each finalist, seeds from config.seed on
    search.finalists = 3  # bayesian, halving: how many units get more seeds
    search.confidence = 0.95  # that no unit is better by more than the tolerance: named, and a stop
    search.tolerance = 0.01  # the difference in score that counts as none
    search.preview_images = 1000  # --preview: at most so many images of train and val together
    return config.lock()
