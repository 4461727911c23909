"""Analysis of trained networks and of their costs: similarity, transferability, compactness."""

from ttl_jax.analysis.cost import Cost, cost, cost_of
from ttl_jax.analysis.macs import count
from ttl_jax.analysis.similarity import cka, pwcca, random_baseline, svcca
from ttl_jax.analysis.transferability import h_score, leep, logme, ridge_probe

__all__ = [
    "Cost", "cka", "cost", "cost_of", "count", "h_score", "leep", "logme", "pwcca", "random_baseline",
    "ridge_probe", "svcca",
]  # fmt: skip
